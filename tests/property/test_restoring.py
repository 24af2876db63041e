"""Whatever is trained, restored, damaged and tried again: what counts as trained is what the head holds, once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.generations import publish
from tests.stories import PREPARED, Story
from trainq import checkpoints
from trainq.jobs import JobKind, JobState, Store
from trainq.journal import lineage
from trainq.messages import (
    Accepted,
    DamagedGeneration,
    Events,
    Forks,
    GetForks,
    GetHeldJobs,
    Greeted,
    HeldJobs,
    Hello,
    Lease,
    Leased,
    PlanRestore,
    Replay,
    ReportCheckpoint,
    RestorePlan,
    RestoreTask,
    Retry,
    SubmitTask,
    TakeLease,
    TaskLease,
    TrainResult,
)
from trainq.tracing import descending


class Trainer:
    """The trainer as the broker sees it; its weights are the list of the jobs that taught them."""

    def __init__(self, folder: Path) -> None:
        self.story = Story(folder)
        self.folder = self.story.configuration.home.checkpoints
        self.weights: dict[int, tuple[str, ...]] = {}
        self.newest = 0
        self.files = 0
        self.lives = 1
        self.damaged: list[DamagedGeneration] = []
        self.publish(())
        self.hello()

    @property
    def head(self) -> int:
        return max(self.weights)

    def name(self, generation: int) -> str:
        return str(checkpoints.Name(generation, generation * 10))

    def publish(self, weights: tuple[str, ...]) -> int:
        self.newest += 1
        publish(self.folder, self.newest, {"w": " ".join(weights).encode()})
        self.weights[self.newest] = weights
        return self.newest

    def hello(self, made_by: str = "", restored_from: int = 0) -> None:
        weights = self.weights[self.head]
        reply = self.story.ask(Hello(
            request_id=self.story.id(), worker="trainer", session=f"s{self.lives}",
            generation=self.head,
            name=self.name(self.head), step=self.head * 10, job=weights[-1] if weights else "",
            job_step=2 if weights else 0, steps_planned=2 if weights else 0, done=bool(weights),
            reason="restore" if made_by else "job_end", made_by=made_by, restored_from=restored_from,
            damaged=tuple(self.damaged)))
        assert isinstance(reply, Greeted), reply

    def submit(self) -> None:
        self.files += 1
        self.story.submit(f"file {self.files}")
        lease = self.story.lease(JobKind.PREPARE)
        assert lease is not None
        self.story.complete(lease, PREPARED)

    def train_next(self, *, tells: bool) -> None:
        lease = self.story.lease(JobKind.TRAIN, worker="trainer", session=f"s{self.lives}")
        if not isinstance(lease, Lease):
            return
        assert lease.job not in self.weights[self.head], "it would enter twice"
        generation = self.publish((*self.weights[self.head], lease.job))
        if not tells:  # it died before it could; its next life finds the job done
            self.lives += 1
            self.hello()
            again = self.story.lease(JobKind.TRAIN, worker="trainer", session=f"s{self.lives}")
            assert isinstance(again, Lease)
            assert again.job == lease.job
            lease = again
        self.story.ask(ReportCheckpoint(
            request_id=self.story.id(), job=lease.job, token=lease.token, generation=generation,
            name=self.name(generation), step=generation * 10, job_step=2, done=True, reason="job_end"))
        self.story.complete(lease, TrainResult(steps_done=2, steps_planned=2, global_step=generation * 10,
                                               generation=generation, checkpoint=self.name(generation)))

    def restore(self, source: int, *, retrain: bool) -> None:
        plan = self.story.ask(PlanRestore(request_id=self.story.id(), store=Store.CHECKPOINTS, name=self.name(source)))
        assert isinstance(plan, RestorePlan)
        before = self.trained()
        asked = self.story.ask(SubmitTask(request_id=self.story.id(), task=RestoreTask(
            store=Store.CHECKPOINTS, name=self.name(source), retrain=retrain)))
        assert isinstance(asked, Accepted), asked
        assert self.story.lease(JobKind.TRAIN, worker="trainer") is None, "the restore goes first"
        taken = self.story.ask(TakeLease(request_id=self.story.id(), worker="trainer", session=f"s{self.lives}",
                                         kinds=(JobKind.RESTORE,)))
        assert isinstance(taken, Leased)
        assert isinstance(taken.lease, TaskLease)
        self.publish(self.weights[source])
        self.hello(taken.lease.job, source)
        assert self.story.state(taken.lease.job) is JobState.SUCCEEDED
        assert set(plan.taken_out) == before - set(self.weights[source])
        assert set(plan.brought_back) >= set(self.weights[source]) - before

    def lose_head(self, *, runs: bool) -> None:
        """The newest generation is damaged; with ``runs`` while the trainer has a job in its hands."""
        if len(self.weights) < 2:
            return
        if runs:
            self.story.lease(JobKind.TRAIN, worker="trainer", session=f"s{self.lives}")
        lost = self.head
        del self.weights[lost]
        shutil.rmtree(self.folder / self.name(lost))
        self.damaged.append(DamagedGeneration(generation=lost, name=f"damaged-{self.name(lost)}", reason="flipped"))
        self.hello()

    def retry(self, at: int) -> None:
        cancelled = [job for job in self.all_jobs() if self.story.state(job) is JobState.CANCELLED]
        if cancelled:
            self.story.ask(Retry(request_id=self.story.id(), job=cancelled[at % len(cancelled)]))

    def all_jobs(self) -> list[str]:
        return [f"train-{number}" for number in range(1, self.files + 1)]

    def trained(self) -> set[str]:
        return {job for job in self.all_jobs() if self.story.state(job) is JobState.SUCCEEDED}

    def held(self, generation: int) -> list[str]:
        reply = self.story.ask(GetHeldJobs(request_id=self.story.id(), generation=generation))
        assert isinstance(reply, HeldJobs)
        return [job.job for job in reply.jobs]

    def holders(self, job: str) -> list[lineage.Span]:
        """Who holds the job, from what anybody may ask."""
        events = self.story.ask(Replay(request_id=self.story.id(), after_seq=0, job=job))
        line = self.story.ask(GetForks(request_id=self.story.id()))
        assert isinstance(events, Events)
        assert isinstance(line, Forks)
        known = descending.Line(line.generation, line.checkpoint, line.newest,
                                [(fork.first, fork.source) for fork in line.forks])
        return descending.holders(known, [entry.body["result"]["generation"] for entry in events.events
                                          if entry.type == "JobSucceeded"], max(self.weights))


OPERATIONS = st.one_of(
    st.tuples(st.just("train"), st.booleans()), st.tuples(st.just("restore"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("lose"), st.booleans()), st.tuples(st.just("retry"), st.integers(0, 5)),
    st.tuples(st.just("restart"),))


@settings(max_examples=30, deadline=None)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=14))
@example(operations=[("train", True), ("restore", 0, False), ("restore", 1, False)])
@example(operations=[("train", False), ("restore", 0, True), ("lose", False)])
@example(operations=[("train", True), ("train", True), ("restore", 0, True), ("lose", True), ("train", True)])
@example(operations=[("train", False), ("restore", 0, False), ("restore", 1, False), ("lose", False)])
@example(operations=[("train", False), ("restore", 0, False), ("lose", False), ("train", False)])
def test_what_counts_as_trained_is_what_the_head_holds(operations: list[tuple[object, ...]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        trainer = Trainer(folder)
        for operation in operations:
            match operation:
                case ("train", bool(tells)):
                    trainer.submit()
                    trainer.train_next(tells=tells)
                case ("restore", int(at), bool(retrain)):
                    trainer.restore(sorted(trainer.weights)[at % len(trainer.weights)], retrain=retrain)
                case ("lose", bool(runs)):
                    trainer.lose_head(runs=runs)
                case ("retry", int(at)):
                    trainer.retry(at)
                case _:
                    trainer.story.restart()
                    trainer.hello()
            assert trainer.trained() == set(trainer.weights[trainer.head])
            for generation, weights in trainer.weights.items():
                assert set(trainer.held(generation)) == set(weights)
            for job in trainer.all_jobs():
                held = trainer.holders(job)
                assert {number for number in trainer.weights if lineage.covers(held, number)} == {
                    number for number, weights in trainer.weights.items() if job in weights}
        trainer.story.journal.close()
    finally:
        shutil.rmtree(folder)


@given(forks=st.dictionaries(st.integers(1, 60), st.integers(0, 59), max_size=8), generation=st.integers(0, 60))
def test_spans_and_holes_are_all_generations_once(forks: dict[int, int], generation: int) -> None:
    spans = lineage.ancestry(forks.items(), generation)
    covered = [number for span in spans for number in range(span.first, span.last + 1)]
    missing = [number for hole in lineage.holes(spans) for number in range(hole.first, min(hole.last, 99) + 1)]
    assert sorted(covered + missing) == list(range(100))
    assert generation in covered
    # By the rule itself, one step at a time.
    walked, at = set(), generation
    while at >= 0:
        walked.add(at)
        at = min(forks[at], at - 1) if at in forks else at - 1
    assert walked - {-1} == set(covered)


@given(forks=st.dictionaries(st.integers(1, 60), st.integers(0, 59), max_size=8), generation=st.integers(0, 60),
       newest=st.integers(0, 70))
def test_who_descends_is_who_has_it_as_an_ancestor(forks: dict[int, int], generation: int, newest: int) -> None:
    spans = lineage.descendants(forks.items(), newest, generation)
    assert {number for number in range(100) if lineage.covers(spans, number)} == {
        number for number in range(newest + 1)
        if lineage.covers(lineage.ancestry(forks.items(), number), generation)}
