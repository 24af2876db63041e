"""The datagen loop: ask for a file when few wait, lease that task, have a child make it, hand it in.

The file is submitted by the broker in the transaction that ends the task, so a kill at any instruction neither loses
nor doubles it: what was made and not handed in is made again, from the seed that the task names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from services.datagen import feeding
from trainq import files, ingest
from trainq.errors import BrokerUnavailableError, TrainqError, UsageError
from trainq.generating import selfplay
from trainq.ids import new_request_id
from trainq.jobs import JobKind, suite_of_a_level
from trainq.messages import (
    Accepted,
    GenerateTask,
    GetLearning,
    GetOverview,
    GetScores,
    JobList,
    Learning,
    LevelFigure,
    ListJobs,
    Overview,
    Scores,
    SubmitTask,
    TaskLease,
    TaskResult,
)
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.child import Child, ChildKilledError
from trainq.service.politeness import be_polite

_LOOK_SECONDS = 0.05
# Between two looks at whether a file is wanted; what happens to jobs wakes it sooner.
_ASK_SECONDS = 2.0
# Questions of a loop that has other things to do: the broker may be away.
_ANSWER_SECONDS = 2.0
_MADE_SHOWN = 200
# At least: how many files of each generator came to nothing in a row is to be seen.
_FILES_SHOWN = 200
# Of the time that a file may take, so much is for the model's answers; the rest is for the beginning and the end.
_ANSWERING_SHARE = 0.8
# Somebody, or the kernel for want of memory, ends the child each time: then it is the task's doing.
_ATTEMPTS = 3


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What the child says: it has written so many rows, and left so many out that stand in a suite.

    Of self-play also how many puzzles were ``asked``, how many answers were ``right`` (and ``lucky``: in their result
    alone), which weights have answered what version of whose puzzles; and the ``reason`` where there is no file.
    """

    rows: int
    left_out: int
    size_bytes: int
    generator_version: str
    asked: int = 0
    right: int = 0
    lucky: int = 0
    unfit: int = 0
    weights_digest: str = ""
    source: str = ""
    source_version: str = ""
    reason: str = ""


class Datagen(Worker[TaskLease]):
    """Makes one file at a time. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, b"event.TaskSubmitted", lambda peer: take_task(peer, (JobKind.GENERATE,)))
        self._home = process.home
        self._ask_at = 0.0
        files.make_directory(self._folder)
        # Its children write here, and itself into the spool: a life that was killed may have left something there.
        files.sweep_temporaries(self._folder, self._home.spool)
        for left in self._folder.iterdir():
            files.remove_file(left)
        be_polite(process.settings.maintenance)

    @property
    def _folder(self) -> Path:
        """Where a file lies until it has its place in ``data/``."""
        return self._home.run / "datagen"

    def turn(self) -> None:
        self._feed()
        super().turn()

    def _feed(self) -> None:
        """Ask for a file if one is to be made."""
        now = self._process.clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_SECONDS
        try:
            decided = self._decide()
            if isinstance(decided, GenerateTask):
                request = SubmitTask(request_id=new_request_id(), task=decided, cause="few files wait")
                accepted = self._peer.client.call(request, Accepted, timeout_seconds=_ANSWER_SECONDS)
                self._process.log.info("file_asked_for", job=accepted.job, generator=decided.generator,
                                       difficulty=decided.level, seed=decided.seed, rows=decided.count)
                decided = f"{accepted.job} is asked for"
        except BrokerUnavailableError:
            return
        self._detail = decided

    def _decide(self) -> GenerateTask | str:
        settings, client = self._process.settings.datagen, self._peer.client
        now = self._process.clock.wall()
        overview = client.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=_ANSWER_SECONDS)
        # The rest is asked for only where it matters: most of the time enough files wait.
        if reason := feeding.why_not(overview.counts, overview.waiting, now, settings):
            return reason
        learning = client.call(GetLearning(request_id=new_request_id()), Learning, timeout_seconds=_ANSWER_SECONDS)
        lists = [client.call(ListJobs(request_id=new_request_id(), kinds=(kind,), limit=limit), JobList,
                             timeout_seconds=_ANSWER_SECONDS).jobs
                 for kind, limit in ((JobKind.TRAIN, max(settings.window_jobs, _FILES_SHOWN)),
                                     (JobKind.GENERATE, _MADE_SHOWN))]
        return feeding.decide(feeding.Known(
            counts=overview.counts, line=overview.waiting, files=lists[0], made=lists[1],
            levels={level.generator: level.level for level in learning.levels},
            scores=self._scores(overview.learning.levels, learning.locks), has_champion=learning.champion is not None,
            now=now), settings)

    def _scores(self, levels: Iterable[LevelFigure], locks: Mapping[str, str]) -> dict[str, float]:
        """What each generator's present level was scored last, whatever else that checkpoint was scored on."""
        found = {}
        for level in levels:
            suite = suite_of_a_level(level.generator, level.level)
            request = GetScores(request_id=new_request_id(), suite=suite, limit=1)
            for score in self._peer.client.call(request, Scores, timeout_seconds=_ANSWER_SECONDS).scores:
                if locks.get(suite, score.suite_digest) == score.suite_digest:
                    found[level.generator] = score.mean
        return found

    def work(self, held: HeldTask) -> TaskResult:
        task = held.lease.task
        if not isinstance(task, GenerateTask):
            raise UsageError(f"a {type(task).__name__} is no task of the datagen")
        champion = self._champion(held) if task.generator == selfplay.NAME else ""
        path = self._folder / f"{held.lease.job}.jsonl"
        try:
            made = self._made(held, task, champion, path)
            stored = None if made.reason else ingest.store_file(
                self._home, path, on_chunk=lambda: held.keep_or_raise(held.progress))
        finally:
            files.remove_file(path)
            files.sweep_temporaries(self._folder)  # of a child that was killed
        self._ask_at = 0.0
        return _result(task, champion, made, stored)

    def _champion(self, held: HeldTask) -> str:
        """Who is asked. Being champion keeps it, and it is read before anybody else can have become it twice."""
        known = self._peer.call(GetLearning(request_id=new_request_id()), Learning, held.states)
        if known.champion is None:
            raise UsageError("there is no champion yet that could answer", mend="trainq champion says when there is")
        return known.champion.checkpoint

    def _made(self, held: HeldTask, task: GenerateTask, champion: str, path: Path) -> Made:
        try:
            return self._make(held, task, champion, path)
        except ChildKilledError as error:
            if held.lease.attempt < _ATTEMPTS:
                raise
            raise TrainqError(f"after {_ATTEMPTS} attempts: {error.message}", mend=error.mend) from error

    def _make(self, held: HeldTask, task: GenerateTask, champion: str, path: Path) -> Made:
        limit = self._process.settings.datagen.limit_seconds
        module, asked = "trainq.generating.child", dict[str, Any](generator=task.generator)
        if champion:
            module = "trainq.ml.selfplaying"
            asked = {"home": str(self._home.root), "champion": champion,
                     "limit_seconds": limit * _ANSWERING_SHARE}
        with Child(self._home.logs / "generating.log", module, {
                **asked, "count": task.count, "level": task.level, "seed": task.seed, "options": task.options,
                "path": str(path), "suites": str(self._home.suites), "idle": True}) as child:
            held.keep_until_ended(child, limit, UsageError(
                f"{task.generator} took longer than {limit:g} s ([datagen] limit_seconds)",
                mend="ask for fewer rows, or give it more time"), look_seconds=_LOOK_SECONDS)
            return child.result(Made)


def _result(task: GenerateTask, champion: str, made: Made, stored: ingest.Stored | None) -> TaskResult:
    """What is reported: the file, and all that says where it comes from."""
    facts: dict[str, Any] = {feeding.GENERATOR_FACT: task.name, feeding.ROWS_FACT: made.rows, "level": task.level,
                             "seed": task.seed, "generator_version": made.generator_version}
    what = f"{task.generator}, level {task.level}, seed {task.seed}"
    if champion:
        facts |= {"champion": champion, "weights": made.weights_digest, "source": made.source,
                  "source_version": made.source_version, "asked": made.asked, "right": made.right, "lucky": made.lucky,
                  "unfit": made.unfit}
        what += f": {champion} was asked {made.asked} puzzles of {made.source}"
    if stored is None:
        return TaskResult(summary=f"no file of {what}; {made.reason}", facts=facts)
    name = feeding.file_name(task)
    left_out = f"; {made.left_out} that stand in a suite are left out" if made.left_out else ""
    return TaskResult(
        summary=f"{name}: {made.rows} rows of {what}{left_out}", size_bytes=stored.size_bytes,
        facts={feeding.FILE_FACT: {"name": name, "digest": stored.digest, "size_bytes": stored.size_bytes}, **facts})


def serve(process: Process) -> None:
    """Run the datagen until it is told to stop."""
    Datagen(process).serve()
