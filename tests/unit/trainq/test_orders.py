"""What people order: pages of jobs without a seam, receipts, rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from trainq import orders
from trainq.client import BrokerClient
from trainq.config import DatagenSettings, GeneratorSettings, Home, ScheduleRule, ScheduleSettings
from trainq.errors import NotFoundError, UsageError
from trainq.jobs import ChampionMove, ChampionView, JobKind, JobState, LevelView
from trainq.messages import Champions, JobList, JobView, Learning, ListJobs, Receipt, RetentionTask


def view(kind: JobKind, number: int) -> JobView:
    return JobView(
        id=f"{kind.value}-{number}", number=number, kind=kind, state=JobState.QUEUED, name="", priority="normal",
        origin="people", digest="", size_bytes=0, prepared=False, rows=0, tokens=0, attempts=0, failures=0,
        submitted_at=0.0, started_at=None, ended_at=None, retry_at=0.0, reason="", cancel_reason=None, result=None)


class Broker(BrokerClient):
    """Answers ``ListJobs`` as the broker does, with at most ``most`` jobs a page."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.jobs = [view(kind, number) for number in range(20, 0, -1) for kind in (JobKind.TRAIN, JobKind.PREPARE)
                     if kind is JobKind.TRAIN or number % 3]

    def call(self, request: Any, *_: Any, **__: Any) -> Any:
        found = [job for job in self.jobs if job.kind in request.kinds
                 and (request.before_number is None or job.number < request.before_number)]
        return JobList(jobs=found[:min(request.limit, self._most)])


@pytest.mark.parametrize("most", [3, 4, 7, 1000])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize("kinds", [(JobKind.TRAIN,), (JobKind.TRAIN, JobKind.PREPARE)])
def test_page_by_page_none_comes_twice_and_none_is_left_out(kinds: tuple[JobKind, ...], limit: int, most: int) -> None:
    broker, found = Broker(most), list[str]()
    ask = ListJobs(request_id="", kinds=kinds, limit=limit)
    while True:
        page, before = orders.jobs_page(broker, ask)
        found += [job.id for job in page]
        if before is None:
            break
        ask = msgspec.structs.replace(ask, before_number=before)
    assert found == [job.id for job in broker.jobs if job.kind in kinds]
    assert [job.id for job in orders.all_jobs(broker, ListJobs(request_id="", kinds=kinds))] == found


def test_a_receipt_with_an_error_is_one() -> None:
    assert orders.receipt_error(Receipt(request_id="a", job="train-1")) is None
    error = orders.receipt_error(Receipt(request_id="a", error_code="send_again", error="it is gone"))
    assert error is not None
    assert (error.code, error.exit_code, error.message) == ("send_again", 75, "it is gone")


def test_what_a_rule_asks_for() -> None:
    settings = ScheduleSettings(rules={"off": ScheduleRule()})
    assert orders.rule_task(settings, "retention") == RetentionTask()
    for name in ("off", "nothing"):
        with pytest.raises(NotFoundError):
            orders.rule_task(settings, name)


def test_one_setting_has_one_value() -> None:
    assert orders.overrides_of(2, {"text": "body"}, [("seed", 3)]).seed == 3
    with pytest.raises(UsageError, match="two values for epochs"):
        orders.overrides_of(2, None, [("epochs", 3)])


def test_the_files_that_hold_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.control.mkdir()
    assert orders.holding_files(home) == []
    (home.control / ".stop").touch()
    assert orders.holding_files(home) == [".stop"]


class Moves(BrokerClient):
    """Answers ``GetChampions`` with two moves a page."""

    def __init__(self) -> None:
        self._moves = [ChampionView(seq=seq, checkpoint=f"g{seq}", before="", how=ChampionMove.PROMOTED, reason="",
                                    by="", at=float(seq)) for seq in range(5, 0, -1)]

    def call(self, request: Any, *_: Any, **__: Any) -> Any:
        before = request.before_seq
        return Champions(champions=[move for move in self._moves if before is None or move.seq < before][:2])


def test_who_was_champion_then() -> None:
    assert [move.seq for move in orders.champion_moves(Moves())] == [5, 4, 3, 2, 1]
    assert orders.champion_at(Moves(), 2.5).checkpoint == "g2"
    with pytest.raises(NotFoundError):
        orders.champion_at(Moves(), 0.5)


class Knowing(BrokerClient):
    """Answers ``GetLearning``: one generator has moved."""

    def __init__(self) -> None:
        pass

    def call(self, *_: Any, **__: Any) -> Any:
        level = LevelView(generator="sums", level=3, checkpoint="g", evaluation="e", at=1.0)
        return Learning(champion=None, previous="", judgement=None, proposal="", levels=(level,), level_suites={},
                        judged=(), locks={}, checkpoint="g", trained=1)


def test_what_is_not_said_of_a_generated_file_is_as_it_is_configured_and_the_level_that_of_now() -> None:
    settings = DatagenSettings(rows=7, generators={"sums": GeneratorSettings(use="arithmetic", options={"most": 9})})
    made = orders.generate_task(Knowing(), settings, "sums")
    assert (made.generator, made.name, made.count, made.level, made.options) == (
        "arithmetic", "sums", 7, 3, {"most": 9})
    assert made.seed != orders.generate_task(Knowing(), settings, "sums").seed
    named = orders.generate_task(Knowing(), settings, "syllo", count=2, level=1, seed=0)
    assert (named.generator, named.count, named.level, named.seed) == ("syllo", 2, 1, 0)
    assert orders.generate_task(Knowing(), settings, "selfplay").level == 3, "that of sums, which makes its puzzles"
    with pytest.raises(UsageError, match="no such file can be made"):
        orders.generate_task(Knowing(), settings, "../x")


def test_what_nobody_can_make_is_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DatagenSettings(generators={
        "sums": GeneratorSettings(use="arithmetic"), "lost": GeneratorSettings(use="arithmetik"),
        "own": GeneratorSettings(use="selfplay", options={"from": "syllable"})})
    there = r"\[datagen.generators\] has: sums, lost, own; besides, there are: arithmetic, command, .*selfplay, syllo"
    for name, missing in (("typo", "typo"), ("lost", "arithmetik"), ("own", "syllable")):
        with pytest.raises(NotFoundError, match=rf"there is no generator '{missing}' \({there}"):
            orders.generate_task(Knowing(), settings, name)
    for name, level in (("sums", 11), ("selfplay", 11), ("command", 1000)):
        with pytest.raises(UsageError, match=rf"the level is {level} \((arithmetic|command) takes one from 1 to 10\)"):
            orders.generate_task(Knowing(), settings, name, level=level)
    facts = tmp_path / "far-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[trainq.generators]\nfar = no_such_module:Far\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert orders.generate_task(Knowing(), settings, "far", level=99).level == 99, "a plug-in is not imported"
