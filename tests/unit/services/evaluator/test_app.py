"""The evaluator's loop at a real desk: suites that are refused, a champion that is gone, a child that is killed."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from unittest import mock

import msgspec
import pytest

from tests import rights
from tests.faults.learning import BASE, HEAD, Evaluate, Killed
from tests.faults.workshops import Workshop
from tests.stories import PREPARED, TRAINED
from trainq import files, manifests, shards, suites
from trainq.jobs import JobKind, JobState, Origin
from trainq.journal import learning
from trainq.messages import EvaluateTask
from trainq.rehearsal import HELD_OUT_NAME
from trainq.service.child import ChildKilledError


@pytest.fixture
def act(tmp_path: Path) -> Evaluate:
    made = Evaluate(tmp_path)
    made.build()
    return made


def test_a_bad_suite_is_refused_shown_and_guards_and_the_others_are_scored(act: Evaluate) -> None:
    shop = act.open()
    (act.home.suites / "other" / "suite.toml").write_text("kind = [")
    assert act.live(shop) is JobState.SUCCEEDED
    seen = shop.look_at(act.job)
    assert seen.result is not None
    assert "not valid TOML" in seen.result["facts"]["refused"]["other"]
    assert shop.types().count("SuiteScored") == 1
    assert shop.types().count("ChampionMoved") == 1, "only the one of before"
    # Whoever asks for it is told.
    act.job = shop.submit_task(EvaluateTask(checkpoint=HEAD, suites=("other",)))
    assert act.live(shop) is JobState.FAILED
    assert "the suite other is refused: " in (shop.look_at(act.job).reason or "")
    shop.close()


def test_a_suite_that_may_not_be_read_is_refused_and_the_others_are_scored(act: Evaluate) -> None:
    shop = act.open()
    closed = act.home.suites / "other" / "rows.jsonl"
    closed.chmod(0)
    with rights.as_they_are():
        assert act.live(shop) is JobState.SUCCEEDED
    result = shop.look_at(act.job).result
    assert result is not None
    assert f"{closed}: it may not be read" in result["facts"]["refused"]["other"]
    assert shop.types().count("SuiteScored") == 1
    shop.close()


def test_a_suite_that_was_changed_is_refused_until_it_is_put_back(act: Evaluate) -> None:
    shop = act.open()
    assert act.live(shop) is JobState.SUCCEEDED
    rows = act.home.suites / "other" / "rows.jsonl"
    before = rows.read_bytes()
    rows.write_bytes(before.replace(b"other 1?", b"another?"))
    for content, refused in ((rows.read_bytes(), {"other"}), (before, set())):
        rows.write_bytes(content)
        act.job = shop.submit_task(EvaluateTask(checkpoint=BASE))
        assert act.live(shop) is JobState.SUCCEEDED
        result = shop.look_at(act.job).result
        assert result is not None
        assert result["facts"]["refused"].keys() == refused
    shop.close()


class OfFiles(Evaluate):
    """A person's file was trained, and then generated ones; of two files the held-out rows are scored."""

    settings = MappingProxyType({**Evaluate.settings, "TRAINQ_EVALUATION_HELD_OUT_JOBS": "2"})

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        self._train(shop)  # the one that waits
        for number in range(3):
            shop.submit(f"generated {number}", origin=Origin.GENERATED)
            self._train(shop)

    def _train(self, shop: Workshop) -> None:
        lease = shop.lease(JobKind.PREPARE)
        assert lease is not None
        shard = self.home.cache / f"shard-of-{lease.job}"
        shard.mkdir(parents=True)
        (shard / HELD_OUT_NAME).write_bytes(b'{"text": "one"}\n{"text": "two"}\n')
        manifests.seal(shard, shards.KIND, {})
        shop.complete(lease, msgspec.structs.replace(PREPARED, shard=shard.name))
        lease = shop.lease(JobKind.TRAIN)
        assert lease is not None
        shop.complete(lease, TRAINED)


def test_a_person_s_file_stays_among_those_that_are_scored_however_many_are_generated(tmp_path: Path) -> None:
    act = OfFiles(tmp_path)
    act.build()
    shop = act.open()
    assert act.live(shop) is JobState.SUCCEEDED
    of_files = [name for name in suites.names(act.home.suites) if re.fullmatch("job-train-[0-9]+", name)]
    # train-1 has no held-out rows.
    assert of_files == ["job-train-2"]
    shop.close()


class Undecided(Evaluate):
    """A home that trains nothing that is generated, and holds no rows of its files out."""

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        files.remove_tree(self.home.suites / "held-out")


def test_where_nothing_can_decide_the_judgement_says_why(tmp_path: Path) -> None:
    act = Undecided(tmp_path)
    act.build()
    shop = act.open()
    assert act.live(shop) is JobState.SUCCEEDED
    judged = learning.known(shop.journal.connection).judgement
    assert judged is not None
    assert judged.reasons[0].startswith("nothing can decide: no generated problems (the datagen is not in profile")
    assert "[data] held_out_fraction" in judged.reasons[0]
    shop.close()


def test_a_champion_that_is_gone_hinders_no_score(act: Evaluate) -> None:
    shop = act.open()
    files.remove_tree(act.home.checkpoints / BASE)
    assert act.live(shop) is JobState.SUCCEEDED
    assert shop.types().count("SuiteScored") == 2
    assert shop.types().count("ChampionMoved") == 1
    shop.close()


def test_a_child_that_somebody_kills_each_time_ends_the_task_and_not_the_queue(act: Evaluate) -> None:
    shop = act.open()
    evaluator = act.worker(shop)
    with mock.patch("services.evaluator.app.Child", Killed):
        for _ in range(2):
            with pytest.raises(ChildKilledError):
                evaluator.turn()
        evaluator.turn()
    assert shop.look_at(act.job).state is JobState.FAILED
    shop.close()
