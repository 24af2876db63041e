"""The evaluator's loop: ask for the head to be scored, lease that task, have a child score it, say what it means.

Scores, what they mean beside the champion's, and the champion's move are recorded by the broker in the transaction that
ends the task. The link ``champion`` follows the journal: whatever is killed, it leads to who was champion, or is.

A suite that is not as it must be is refused, and said to be; the others are scored all the same. Nobody becomes
champion while one is refused that decides or guards. Who has named the suite is told by the end of the task: it fails.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import msgspec

from services.evaluator import due, verdicts
from services.evaluator.fixed import FixedProblems, Suites
from services.evaluator.verdicts import HELD_OUT, Level, Subject
from trainq import checkpoints, evaluations, files, suites
from trainq.errors import (
    BrokerUnavailableError,
    DamageError,
    InputError,
    NewerFormatError,
    NotFoundError,
    RequestReusedError,
    TrainqError,
    UsageError,
)
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
    SubmitTask,
    TaskLease,
    TaskResult,
    TrainedShards,
)
from trainq.promoting import Rules
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.child import Child, ChildKilledError
from trainq.service.politeness import be_polite

_LOOK_SECONDS = 0.2
# Between two looks at the line and the champion; an event wakes the loop sooner.
_ASK_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
# Somebody, or the kernel for want of memory, ends the child each time: then it is the task's doing.
_ATTEMPTS = 3
# A suite is scored on the checkpoint, and in two sorts of batches on the champion; so much more for all else.
_SCORINGS, _SLACK_SECONDS = 3, 600.0


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
                with contextlib.suppress(RequestReusedError):  # an earlier trainq, which words it otherwise, has asked
                    job = client.call(request, Accepted, timeout_seconds=_ANSWER_SECONDS).job
                    self._process.log.info("evaluation_asked_for", job=job, checkpoint=known.checkpoint)
                self._asked, self._asked_at = known.checkpoint, known.trained
        except BrokerUnavailableError:
            pass  # what was not heard is asked for again

    def _follow_champion(self) -> None:
        """Have the link follow while a checkpoint is scored, which takes long."""
        now = self._process.clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_SECONDS
        with contextlib.suppress(BrokerUnavailableError):
            self._point(self._peer.client.call(GetLearning(request_id=new_request_id()), Learning,
                                               timeout_seconds=_ANSWER_SECONDS))

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
        champion = known.champion.checkpoint if known.champion is not None else ""
        there = self._suites(held, known)
        limits, refused = self._limits(held, there.levels, known)
        rules = verdicts.rules_of(self._process.settings.promotion, limits, there.held_out)
        levels = _chosen(task, there.levels)
        report = self._scored(held, subject, {suite: level for suite, level in levels.items() if suite not in refused},
                              self._there(champion, task.checkpoint), rules)
        report = msgspec.structs.replace(report, refused={**refused, **report.refused})
        if spare := evaluations.remove_of_gone(self._home):
            self._process.log.info("evaluations_removed", number=len(spare))
        self._refuse(task, report)
        known = self._peer.call(GetLearning(request_id=new_request_id(), weights=report.weights_digest), Learning,
                                held.states)
        found = verdicts.findings(report, subject, None if task.suites else champion, known, levels, rules,
                                  self._process.settings.curriculum,
                                  "" if HELD_OUT in there.levels else there.undecided)
        self._ask_at = 0.0
        return TaskResult(summary=verdicts.summary(task.checkpoint, found, report.refused),
                          facts=verdicts.facts(found, report.refused))

    def _there(self, champion: str, checkpoint: str) -> str:
        """With whom to compare; empty where there is nobody, or nobody any more."""
        if champion == checkpoint:
            return ""
        if champion and not (self._home.checkpoints / champion).is_dir():
            self._process.log.warning("champion_is_gone", checkpoint=champion)
            return ""
        return champion

    def _refuse(self, task: EvaluateTask, report: EvaluationReport) -> None:
        """Say which suites were refused; the task fails if they were asked for, or none is left.

        Raises:
            InputError: it does.
        """
        named = [suite for suite in report.refused if suite in task.suites]
        self._detail = "; ".join(f"the suite {suite} is refused: {why}" for suite, why in report.refused.items())
        for suite, why in report.refused.items():
            self._process.log.warning("suite_refused", suite=suite, reason=why)
        if named or not report.scores:
            raise InputError("; ".join(f"the suite {suite} is refused: {why}" for suite, why in report.refused.items()
                                       if suite in named or not named))

    def _suites(self, held: HeldTask, known: Learning) -> Suites:
        """The suites that there are."""
        limit = max(1, self._process.settings.evaluation.held_out_jobs)
        # People's files first: generated ones would be all of the newest.
        trained = self._peer.call(GetTrainedShards(request_id=new_request_id(), limit=limit, spread=True),
                                  TrainedShards, held.states).shards
        there = self._fixed.make({level.generator: level.level for level in known.levels}, trained,
                                 lambda: held.keep_or_raise(held.progress))
        if not there.levels:
            raise NotFoundError("there is no suite in suites/, and no generator is configured that makes problems",
                                mend="put one there (docs/guide.md, Evaluation suites), or have rows of files held out "
                                     "([data] held_out_fraction)")
        return there

    def _limits(self, held: HeldTask, there: Mapping[str, Level | None],
                known: Learning) -> tuple[dict[str, float | None], dict[str, str]]:
        """How far each suite may fall; and why some are refused: they are no suites, or not what they were.

        What cannot be read may have a limit, so it guards.
        """
        limits: dict[str, float | None] = {}
        refused: dict[str, str] = {}
        for name in there:
            held.keep_or_raise(held.progress)  # a large one takes seconds
            locked = known.locks.get(name)
            try:
                suite = suites.load(self._home.suites / name)
            except InputError as error:
                limits[name], refused[name] = 0.0, str(error)
                continue
            limits[name] = suite.limit
            if locked is not None and locked != suite.digest:
                refused[name] = (f"it is another one than it was, {suite.digest[:16]} in place of {locked[:16]} (put "
                                 f"it back, or trainq suites lock {name}: its scores begin anew)")
        return limits, refused

    def _scored(self, held: HeldTask, subject: Subject, levels: Mapping[str, Level | None], champion: str,
                rules: Rules) -> EvaluationReport:
        if not levels:
            return EvaluationReport(checkpoint=subject.checkpoint, weights_digest="", scores=[])
        try:
            return self._scored_by_child(held, subject.checkpoint, levels, champion, rules)
        except ChildKilledError as error:
            if held.lease.attempt < _ATTEMPTS:
                raise
            raise TrainqError(f"after {_ATTEMPTS} attempts: {error.message}", mend=error.mend) from error

    def _scored_by_child(self, held: HeldTask, checkpoint: str, levels: Mapping[str, Level | None], champion: str,
                         rules: Rules) -> EvaluationReport:
        settings = self._process.settings
        asked = settings.evaluation
        limit = _SCORINGS * asked.limit_seconds * len(levels) + _SLACK_SECONDS
        with Child(self._home.logs / "evaluation.log", "trainq.ml.evaluating", {
                "home": str(self._home.root), "checkpoint": checkpoint, "suites": list(levels), "against": champion,
                "compared": [rule.suite for rule in rules.suites],
                "batch_rows": asked.batch_rows, "limit_seconds": asked.limit_seconds,
                "device": "cuda" if held.lease.gpu else "cpu",
                "threads": asked.threads or max(1, (os.cpu_count() or 1) // 2),
                "confidence": asked.confidence, "margin": settings.promotion.margin,
                "alpha": rules.alpha / max(1, sum(rule.deciding for rule in rules.suites))},
                   gpu=held.lease.gpu) as child:
            held.keep_until_ended(child, limit, UsageError(
                f"the evaluation hung: it was not done after {limit:g} s",
                mend="logs/evaluation.log says how far it was"), look_seconds=_LOOK_SECONDS, turn=self._follow_champion)
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
