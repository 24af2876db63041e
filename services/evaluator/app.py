"""The evaluator's loop: ask for the head to be scored, lease that task, have a child score it, say what it means.

Scores, what they mean beside the champion's, and the champion's move are recorded by the broker in the transaction that
ends the task. The link ``champion`` follows the journal: whatever is killed, it leads to who was champion, or is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from services.evaluator import due, verdicts
from services.evaluator.fixed import FixedProblems, Suites
from services.evaluator.verdicts import Level, Subject
from trainq import checkpoints, files, suites
from trainq.errors import BrokerUnavailableError, DamageError, NewerFormatError, NotFoundError, UsageError
from trainq.evaluations import EvaluationReport
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    Accepted,
    EvaluateTask,
    GetLearning,
    GetOverview,
    GetTrainedShards,
    Learning,
    Overview,
    Progress,
    SubmitTask,
    TaskLease,
    TaskResult,
    TrainedShards,
)
from trainq.promoting import Rules
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.child import Child
from trainq.service.politeness import be_polite

_LOOK_SECONDS = 0.2
# Between two looks at the line and the champion; an event wakes the loop sooner.
_ASK_SECONDS = 2.0
_ANSWER_SECONDS = 2.0


class Evaluator(Worker[TaskLease]):
    """Scores one checkpoint at a time. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, b"event.", lambda peer: take_task(peer, (JobKind.EVALUATE,)))
        self._home = process.home
        self._fixed = FixedProblems(process.home, process.settings, process.log)
        self._ask_at = 0.0
        self._asked, self._asked_at = "", -1
        for folder in (self._home.suites, self._home.evaluations):
            files.make_directory(folder)
            files.sweep_temporaries(folder)
        be_polite(process.settings.maintenance)

    def turn(self) -> None:
        self._look()
        super().turn()

    def _look(self) -> None:
        """Have the link follow the champion, and ask for the head to be scored if that is due."""
        now = self._process.clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_SECONDS
        client = self._peer.client
        try:
            known = client.call(GetLearning(request_id=new_request_id()), Learning, timeout_seconds=_ANSWER_SECONDS)
            self._point(known)
            overview = client.call(GetOverview(request_id=new_request_id()), Overview,
                                   timeout_seconds=_ANSWER_SECONDS)
            why_not = due.why_not(
                due.Known(counts=overview.counts, checkpoint=known.checkpoint, ended=self._has_ended(known.checkpoint),
                          trained=known.trained, asked=self._asked,
                          asked_at=self._asked_at if self._asked_at >= 0 else None),
                self._process.settings.evaluation.after_jobs)
            if not why_not:
                # Under this id the same checkpoint is asked for once, by whatever life of this process.
                request = SubmitTask(request_id=f"evaluate-{known.checkpoint}", cause="a file was trained",
                                     task=EvaluateTask(checkpoint=known.checkpoint))
                job = client.call(request, Accepted, timeout_seconds=_ANSWER_SECONDS).job
                self._asked, self._asked_at = known.checkpoint, known.trained
                self._process.log.info("evaluation_asked_for", job=job, checkpoint=known.checkpoint)
        except BrokerUnavailableError:
            pass

    def _point(self, known: Learning) -> None:
        """Make the link ``champion`` lead to who is champion."""
        if known.champion is None:
            return
        link, target = self._home.champion, f"{self._home.checkpoints.name}/{known.champion.checkpoint}"
        if not link.is_symlink() or str(link.readlink()) != target:
            files.replace_link(link, target)
            self._process.log.info("champion_moved", checkpoint=known.champion.checkpoint,
                                   how=known.champion.how.value)

    def _has_ended(self, name: str) -> bool:
        """Whether the state is that of the end of a file."""
        try:
            cursor = checkpoints.read_facts(self._home.checkpoints / name).cursor if name else None
        except (DamageError, NewerFormatError):
            return False
        return cursor is not None and (cursor.done or not cursor.job)

    def work(self, held: HeldTask) -> TaskResult:
        task = held.lease.task
        if not isinstance(task, EvaluateTask):
            raise UsageError(f"a {type(task).__name__} is no task of the evaluator")
        path = self._home.checkpoints / task.checkpoint
        if not path.is_dir():
            raise NotFoundError(f"there is no {task.checkpoint} in checkpoints/", mend="evaluate one that is there")
        subject = Subject(task.checkpoint, checkpoints.read_facts(path).marks)
        known = self._peer.call(GetLearning(request_id=new_request_id()), Learning, held.states)
        there = self._suites(held, known)
        rules = verdicts.rules_of(self._process.settings.promotion, self._limits(there.levels, known), there.held_out)
        levels = _chosen(task, there.levels)
        champion = known.champion.checkpoint if known.champion is not None else ""
        report = self._scored(held, task.checkpoint, levels, "" if champion == task.checkpoint else champion, rules)
        known = self._peer.call(GetLearning(request_id=new_request_id(), weights=report.weights_digest), Learning,
                                held.states)
        found = verdicts.findings(report, subject, known, levels, rules, self._process.settings.curriculum)
        self._ask_at = 0.0
        outcome = f"; {found.judgement.outcome}: {'; '.join(found.judgement.reasons)}" if found.judgement else ""
        return TaskResult(
            summary=f"{task.checkpoint} is scored on {len(found.scores)} suites{outcome}"[:4096],
            facts={"report": msgspec.to_builtins(found)})

    def _suites(self, held: HeldTask, known: Learning) -> Suites:
        """The suites that there are."""
        limit = max(1, self._process.settings.evaluation.held_out_jobs)
        trained = self._peer.call(GetTrainedShards(request_id=new_request_id(), limit=limit), TrainedShards,
                                  held.states).shards
        there = self._fixed.make({level.generator: level.level for level in known.levels}, trained)
        if not there.levels:
            raise NotFoundError("there is no suite in suites/, and no generator is configured that makes problems",
                                mend="put one there: docs/guide.md, Evaluation suites")
        return there

    def _limits(self, there: Mapping[str, Level | None], known: Learning) -> dict[str, float | None]:
        """How far each suite may fall, once it is certain that they are what they were.

        Raises:
            UsageError: one is another than it was when it was first scored.
        """
        limits = {}
        for name in there:
            suite, locked = suites.load(self._home.suites / name), known.locks.get(name)
            if locked is not None and locked != suite.digest:
                raise UsageError(
                    f"the suite {name} is another one than it was: {suite.digest[:16]}, locked to {locked[:16]}",
                    mend=f"put it back, or trainq suites lock {name}: its scores begin anew")
            limits[name] = suite.limit
        return limits

    def _scored(self, held: HeldTask, checkpoint: str, levels: Mapping[str, Level | None], champion: str,
                rules: Rules) -> EvaluationReport:
        settings, clock = self._process.settings, self._process.clock
        asked = settings.evaluation
        limit, began = asked.limit_seconds * max(1, len(levels)), clock.monotonic()
        with Child(self._home.logs / "evaluation.log", "trainq.ml.evaluating", {
                "home": str(self._home.root), "checkpoint": checkpoint, "suites": list(levels), "against": champion,
                "compared": [rule.suite for rule in rules.suites],
                "batch_rows": asked.batch_rows, "limit_seconds": asked.limit_seconds,
                "device": "cuda" if held.lease.gpu else "cpu",
                "threads": asked.threads or max(1, (os.cpu_count() or 1) // 2),
                "confidence": asked.confidence, "margin": settings.promotion.margin,
                "alpha": rules.alpha / max(1, sum(rule.deciding for rule in rules.suites))},
                   gpu=held.lease.gpu) as child:
            while not child.has_ended:
                held.keep_or_raise(Progress(step=int(clock.monotonic() - began), steps=int(limit), unit="seconds"))
                self._peer.wait(_LOOK_SECONDS)
            return child.result(EvaluationReport)


def _chosen(task: EvaluateTask, there: Mapping[str, Level | None]) -> dict[str, Level | None]:
    """Those of the suites that are to be scored.

    Raises:
        NotFoundError: one is not there.
    """
    if unknown := [suite for suite in task.suites if suite not in there]:
        raise NotFoundError(f"there is no suite {unknown[0]} in suites/, or it does not fit into the model",
                            mend=f"there are: {', '.join(there)}")
    return {suite: level for suite, level in there.items() if not task.suites or suite in task.suites}


def serve(process: Process) -> None:
    """Run the evaluator until it is told to stop."""
    Evaluator(process).serve()


