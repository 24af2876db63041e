"""What a shard is made with is gathered once, stored, and taken as the journal names it ever after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Never

import msgspec
import pytest
from blake3 import blake3

from services.preparer.gathering import Gatherer
from tests import rights
from trainq import builtin, files, ingest, preparing
from trainq.config import DataSettings, GateSettings, Home, TrainSettings
from trainq.errors import DamageError, StorageFullError
from trainq.jobs import EnclosedRole, JobKind
from trainq.logs import null_log, open_log
from trainq.messages import Lease, TrainedShard, TrainSpec
from trainq.preparing import Prepared
from trainq.textcodec import TextCodec

CODEC = TextCodec.load(builtin.folder())


class Workshop:
    """A home with files in it, and a gatherer."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        for folder in self.home.folders():
            files.make_directory(folder)
        self.gatherer = Gatherer(self.home, null_log())
        self.trained: list[TrainedShard] = []

    def lease(self, word: str, rows: int, gate: GateSettings | None = None, replay: float = 0.5) -> Lease:
        path = self.home.root / "source"
        path.write_text("".join(json.dumps({"text": f"{word} {row}"}) + "\n" for row in range(rows)))
        stored = ingest.store_file(self.home, path)
        return Lease(job="prepare-9", kind=JobKind.PREPARE, token=1, attempt=1, name=word, digest=stored.digest,
                     size_bytes=stored.size_bytes, seq=1, lease_seconds=9.0, heartbeat_seconds=1.0,
                     spec=TrainSpec(model="", data=DataSettings(replay_fraction=replay), train=TrainSettings(),
                                    gate=gate or GateSettings()))

    def prepare(self, lease: Lease) -> tuple[Lease, Prepared]:
        """The shard, and the lease on making it again."""
        enclosed, inputs = self.gatherer.gather(lease, CODEC, lambda _: None, lambda: self.trained)
        outcome = preparing.prepare(
            ingest.data_path(self.home, lease.digest), CODEC, lease.spec.data, builtin.CONTEXT_TOKENS, self.home.cache,
            self.home.rejected, "f", lambda _: None, inputs)
        assert isinstance(outcome, Prepared), outcome
        return msgspec.structs.replace(lease, enclosed=enclosed), outcome

    def train(self, word: str, rows: int) -> None:
        lease, outcome = self.prepare(self.lease(word, rows))
        self.trained.insert(0, TrainedShard(job=f"train-{word}", digest=lease.digest, shard=outcome.shard))

    def write_suite(self, text: str) -> None:
        path = self.home.suites / "exam" / "test.jsonl"
        files.make_directory(path.parent)
        path.write_text(json.dumps({"text": text}) + "\n")


def refuse(*_: object) -> Never:
    raise StorageFullError("no room left")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "home")


def test_the_first_file_has_nothing_to_replay(workshop: Workshop) -> None:
    lease, outcome = workshop.prepare(workshop.lease("red", 10))
    assert lease.enclosed == ()
    assert outcome.report.replayed == 0


def test_a_shard_that_is_made_again_is_the_same_whatever_has_changed(workshop: Workshop) -> None:
    workshop.write_suite("blue 3")
    workshop.train("red", 10)
    lease, outcome = workshop.prepare(workshop.lease("blue", 10))
    assert lease.enclosed is not None
    assert {each.role: each.sources for each in lease.enclosed} == {
        EnclosedRole.REPLAY: {"train-red": 10}, EnclosedRole.SUITES: {"exam": 1}}
    assert (outcome.report.trained, outcome.report.replayed, outcome.report.rejected) == (9, 4, 1)
    for each in lease.enclosed:
        assert blake3(ingest.data_path(workshop.home, each.digest).read_bytes()).hexdigest() == each.digest
    # Other suites, other jobs, another life of the preparer.
    workshop.train("green", 40)
    workshop.write_suite("blue 7")
    files.remove_tree(workshop.home.cache / outcome.shard)
    workshop.gatherer = Gatherer(workshop.home, null_log())
    again, same = workshop.prepare(lease)
    assert (same.shard, same.digest, again.enclosed) == (outcome.shard, outcome.digest, lease.enclosed)
    # And for the first time it would be another one.
    anew, other = workshop.prepare(msgspec.structs.replace(lease, enclosed=None))
    assert other.shard != outcome.shard
    assert anew.enclosed is not None
    assert next(each.sources for each in anew.enclosed if each.role is EnclosedRole.REPLAY).keys() == {
        "train-red", "train-green"}
    ingest.data_path(workshop.home, lease.enclosed[0].digest).unlink()
    with pytest.raises(DamageError, match="gone or damaged"):
        workshop.prepare(lease)


def test_a_killed_preparation_gathers_the_same(workshop: Workshop) -> None:
    workshop.write_suite("x")
    workshop.train("red", 10)
    first, second = (workshop.prepare(workshop.lease("blue", 10)) for _ in range(2))
    assert first[0].enclosed == second[0].enclosed
    assert (first[1].shard, second[1].reused) == (second[1].shard, True)


def test_nothing_is_replayed_to_itself_nor_what_is_guarded(workshop: Workshop) -> None:
    workshop.train("red", 10)
    again, _ = workshop.prepare(workshop.lease("red", 10))
    assert again.enclosed == ()
    workshop.write_suite("red 4")
    lease, outcome = workshop.prepare(workshop.lease("blue", 20))
    assert lease.enclosed is not None
    assert next(each.sources for each in lease.enclosed if each.role is EnclosedRole.REPLAY) == {"train-red": 9}
    assert outcome.report.replayed == 9


def test_a_job_of_before_has_neither(workshop: Workshop) -> None:
    workshop.write_suite("blue 3")
    workshop.train("red", 10)
    lease, outcome = workshop.prepare(workshop.lease("blue", 10, gate=GateSettings.none(), replay=0.0))
    assert lease.enclosed == ()
    assert (outcome.report.trained, outcome.verdict) == (10, None)


def test_a_suite_that_guards_nothing_is_named_once(workshop: Workshop) -> None:
    workshop.write_suite("blue 3")
    broken = workshop.home.suites / "broken" / "rows.jsonl"
    files.make_directory(broken.parent)
    broken.write_text('{"question": "?"}\n')
    log = open_log("preparer", workshop.home.logs)
    workshop.gatherer = Gatherer(workshop.home, log)
    for number in (1, 2):
        workshop.prepare(workshop.lease(f"red {number}", 3))
        workshop.write_suite(f"blue {number}")
    log.close()
    lines = [json.loads(line) for line in (workshop.home.logs / "preparer.log").read_text().splitlines()]
    assert [(line["event"], line["suite"]) for line in lines] == [("suite_not_guarded", "broken")]


def test_a_suite_that_may_not_be_read_stops_no_file_and_is_named_once(workshop: Workshop) -> None:
    workshop.write_suite("blue 3")
    closed = workshop.home.suites / "closed" / "rows.jsonl"
    files.make_directory(closed.parent)
    closed.write_text('{"text": "red 2"}\n')
    closed.chmod(0)
    log = open_log("preparer", workshop.home.logs)
    workshop.gatherer = Gatherer(workshop.home, log)
    for number in (1, 2):
        with rights.as_they_are():
            _, outcome = workshop.prepare(workshop.lease("blue", 5))
        assert outcome.report.trained == 4
        workshop.write_suite(f"blue {number}")
    log.close()
    (line,) = [json.loads(line) for line in (workshop.home.logs / "preparer.log").read_text().splitlines()]
    assert (line["event"], line["suite"]) == ("suite_not_guarded", "closed")
    assert f"{closed}: it may not be read (give it, and its folder, to the user" in line["reason"]


def test_an_index_that_could_not_be_stored_is_not_taken_for_another(workshop: Workshop,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The suites changed, and the disk was full: a shard that is made again is judged by those of the first time."""
    workshop.write_suite("blue 3")
    lease, outcome = workshop.prepare(workshop.lease("blue", 10))
    workshop.write_suite("blue 7")
    other = workshop.lease("red", 10)
    with monkeypatch.context() as full, pytest.raises(StorageFullError):
        full.setattr(ingest, "store_stream", refuse)
        workshop.prepare(other)
    files.remove_tree(workshop.home.cache / outcome.shard)
    assert workshop.prepare(lease)[1].digest == outcome.digest
