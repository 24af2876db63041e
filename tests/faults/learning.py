"""Acts of the datagen and of the evaluator: a file that is made, and a checkpoint that is scored and becomes champion.

Their children are done in the same process, so that a kill, or a fault, meets both at each place of either. That of the
evaluator computes nothing: what it says of a checkpoint follows from its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from unittest import mock

import msgspec
import numpy as np

from services.datagen.app import Datagen
from services.evaluator.app import Evaluator
from tests.faults.acts import Act, train_one
from tests.faults.workshops import Workshop
from trainq import evaluations, files, ids, manifests, significance, suites
from trainq.config import Home
from trainq.evaluations import EvaluationFacts, EvaluationReport, Method, RowResult, SuiteScore
from trainq.generating import child as generating
from trainq.jobs import JobKind, JobState, Origin
from trainq.messages import Done, EvaluateTask, GenerateTask, Promote, Task, TaskLease
from trainq.promoting import Comparison
from trainq.service import Worker
from trainq.service.child import ChildKilledError

BASE, HEAD = "g000001-s00000010", "g000002-s00000020"
_ROWS = 24
_GONE = "0" * 64
_GENERATORS = {"TRAINQ_DATAGEN_QUEUE_FILES": "1", "TRAINQ_EVALUATION_AFTER_JOBS": "0"}


class _Child:
    """:class:`trainq.service.child.Child`, done at once in this process."""

    def __init__(self, log: Path, module: str, request: dict[str, Any], *, gpu: bool = False) -> None:
        self._module, self._request = module, request
        self.has_ended = True
        del log, gpu

    def __enter__(self) -> Self:
        return self

    def result(self, answer: type[Any]) -> Any:
        if self._module == "trainq.generating.child":
            done: Any = generating.write(msgspec.convert(self._request, generating.Request))
        else:
            done = score(Home(Path(self._request["home"])), self._request)
        return msgspec.convert(msgspec.to_builtins(done), answer)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        pass


class Killed(_Child):
    """One that somebody ends each time."""

    def result(self, answer: type[Any]) -> Any:  # noqa: ARG002
        raise ChildKilledError("somebody was ended by signal 9")


def score(home: Home, request: dict[str, Any]) -> EvaluationReport:
    """What the evaluating child would say; the later the checkpoint, the better it is."""
    own, against = request["checkpoint"], request["against"]
    digest = evaluations.weights_digest(home.checkpoints / own)
    scores = []
    for name in request["suites"]:
        suite = suites.load(home.suites / name)
        found = _scored(home, own, suite)
        comparison = None
        if against and name in request["compared"]:
            other = _scored(home, against, suite)
            difference = significance.compare_losses(other.values(), found.values(), noise=0.0,
                                                     margin=request["margin"], alpha=request["alpha"],
                                                     confidence=request["confidence"])
            comparison = Comparison(suite=name, kind=suite.kind, champion=evaluations.score_of(other),
                                    challenger=evaluations.score_of(found), difference=difference)
        scores.append(SuiteScore(facts=found.facts, score=evaluations.score_of(found), was_known=False,
                                 comparison=comparison))
    return EvaluationReport(checkpoint=own, weights_digest=digest, scores=scores, against=against,
                            against_digest=evaluations.weights_digest(home.checkpoints / against) if against else "")


def _scored(home: Home, checkpoint: str, suite: suites.Suite) -> evaluations.Evaluation:
    digest, method = evaluations.weights_digest(home.checkpoints / checkpoint), Method(rules=1, batch_rows=1,
                                                                                       device="cpu")
    key = evaluations.key_of(digest, suite, "", method)
    if (found := evaluations.find(home, key)) is not None:
        return found
    losses = 3.0 - int(checkpoint[1:7]) + np.arange(len(suite.rows)) / 100
    facts = EvaluationFacts(
        key=key, suite=suite.name, suite_digest=suite.digest, kind=suite.kind, checkpoint=checkpoint,
        weights_digest=digest, method=method, n=len(losses), mean=float(losses.mean()), low=float(losses.min()),
        high=float(losses.max()), confidence=0.95, seed=0, left_out=0, tokens=len(losses), seconds=0.0,
        created_at=1.0, created_by="test")
    return evaluations.publish(home, facts, [RowResult(row=row, loss=float(loss), tokens=1)
                                             for row, loss in enumerate(losses)])


@contextlib.contextmanager
def _children_here() -> Iterator[None]:
    with mock.patch("services.datagen.app.Child", _Child), mock.patch("services.evaluator.app.Child", _Child):
        yield


class Generate(Act):
    """A file is made, stored, and submitted with the end of the task."""

    settings = MappingProxyType(_GENERATORS)

    def worker(self, shop: Workshop) -> Worker[TaskLease]:
        return shop.worker(Datagen, "datagen")

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)
        self._before = set(files.list_tree(self.home.data))

    def task(self) -> Task:
        return GenerateTask(generator="arithmetic", name="arithmetic", count=8, level=1, seed=7)

    def sources(self) -> tuple[Path, ...]:
        return (self.home.checkpoints,)

    def live(self, shop: Workshop) -> JobState:
        with _children_here():
            return super().live(shop)

    def wrong_now(self) -> list[str]:
        return super().wrong_now() + [
            f"{path.name} is not whole" for path in files.list_tree(self.home.data)
            if ids.is_digest(path.name) and manifests.digest_file(path) != path.name]

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        made = [row for row in shop.queries.listing(
            kinds=(JobKind.TRAIN,), states=(), failed_only=False, before_number=None, limit=100) if row.generated]
        asked = shop.queries.job(self.job)
        new = {path.name for path in set(files.list_tree(self.home.data)) - self._before}
        left = list((self.home.run / "datagen").iterdir())
        wrong = [] if len(made) == 1 else [f"there are {len(made)} jobs of one task"]
        wrong += [] if new == {row.digest for row in made} else [f"{new} is stored, which no job names"]
        wrong += [f"{path.name} is left" for path in left]
        assert asked.state is JobState.SUCCEEDED
        assert all(shop.look_at(row.id).origin == Origin.GENERATED for row in made)
        return super().wrong_at_the_end(shop) + wrong


class Evaluate(Act):
    """The head is scored, found better, and becomes champion; and the link follows."""

    settings = MappingProxyType({**_GENERATORS, "TRAINQ_DATAGEN_GENERATORS": "{}",
                                 "TRAINQ_EVALUATION_HELD_OUT_JOBS": "0", "TRAINQ_PROMOTION_MIN_ROWS": "20"})

    def worker(self, shop: Workshop) -> Worker[TaskLease]:
        files.sweep_temporaries(self.home.root)  # as whatever service starts (trainq.service.running)
        return shop.worker(Evaluator, "evaluator")

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)
        for name in ("held-out", "other"):
            suites.write(self.home.suites / name, [{"prompt": f"{name} {row}?", "completion": f"{row}"}
                                                   for row in range(_ROWS)], kind="loss")
        assert isinstance(shop.answer(Promote(request_id=shop.id(), checkpoint=BASE)), Done)
        # Of a checkpoint that is there no more.
        (self.home.evaluations / _GONE).mkdir(parents=True)

    def task(self) -> Task:
        return EvaluateTask(checkpoint=HEAD)

    def live(self, shop: Workshop) -> JobState:
        with _children_here():
            worker = self.worker(shop)
            state = shop.work_until_ended(worker, self.job)
            worker.turn()  # the link follows
            return state

    def wrong_now(self) -> list[str]:
        wrong = super().wrong_now()
        for path in self.home.evaluations.iterdir():
            if len(path.name) == len(_GONE) and path.name != _GONE:
                evaluations.read(self.home, path.name)
        if self.home.champion.is_symlink() and self.home.champion.resolve().name not in (BASE, HEAD):
            wrong.append(f"the link leads to {self.home.champion.resolve()}")
        return wrong

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        types = shop.types()
        wrong = [f"{types.count(kind)} times {kind}" for kind, times in (
            ("SuiteScored", 2), ("SuiteLocked", 2), ("CheckpointJudged", 1), ("ChampionMoved", 2))
            if types.count(kind) != times]
        if not self.home.champion.is_symlink() or self.home.champion.resolve().name != HEAD:
            wrong.append("the link does not lead to the champion")
        there = {path.name for path in self.home.evaluations.iterdir()}
        wrong += [] if len(there) == 3 and _GONE not in there else [f"the results are {there}"]
        return super().wrong_at_the_end(shop) + wrong
