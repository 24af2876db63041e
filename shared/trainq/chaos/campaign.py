"""One campaign: break and submit for a while, mend, wait until all work has ended, stop, and look at what is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from trainq import crashpoints, files, suites
from trainq.chaos import plan, processes, proof
from trainq.chaos.faults import Breaker, Tally
from trainq.chaos.installation import POLL_SECONDS, Installation, NotInTimeError, wait_until
from trainq.chaos.load import Person, User, ask_patiently
from trainq.chaos.operating import Operator
from trainq.chaos.upkeep import LAST_COPIES, Caretaker, failed_wrongly, fed_wrongly
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError
from trainq.ids import new_request_id
from trainq.jobs import ENDED, TASKS, JobKind, JobState
from trainq.messages import GetLearning, GetOverview, JobList, JobView, Learning, ListJobs, Overview

# Short leases and intervals, so that in a minute much begins and ends; accumulation and two epochs, so that a position
# inside a file has as many parts as it can have; few copies that stay, so that old ones really go.
SETTINGS = """[services]
profile = "full"

[broker]
lease_seconds = 5
heartbeat_seconds = 1
prepare_wait_seconds = 5
max_attempts = 100

[watcher]
settle_seconds = 0.3
sweep_seconds = 1

[data]
max_bad_rows = 0.1

[train]
epochs = 2
batch_rows = 4
micro_batch_rows = 2
threads = 1
schedule = "cosine"
rewarm_steps = 3
checkpoint_seconds = 1
checkpoint_steps = 20

[datagen.generators.arithmetic]
weight = 0

[evaluation]
after_jobs = 0
threads = 1

[promotion]
min_rows = 8

[maintenance]
max_workers = 2
niceness = 0

[retention]
checkpoints_last = 3
snapshots_last = 2
snapshots_daily = 0
snapshots_weekly = 0
trash_hours = 0.002
"""
# Of the seeds that have one.
_ADAPTER = {"TRAINQ_LORA_RANK": "4"}

_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0
_TALK_SECONDS = 10.0
# A kill that meets nobody is none; so slow is no run. The slack is for the start, and for runs of few kills.
_SECONDS_A_KILL = 10.0
_SLACK_SECONDS = 120.0
# The most that is not the trainer's work: a lease's end, and the longest pause before a restart.
_PATIENCE_SECONDS = 120.0
# Who reaches the crash points of a family. The others make folders at their first start and nothing else that lasts.
_OWNERS = {"files": ("watcher", "preparer", "snapshot", "retention", "datagen", processes.GENERATION,
                     processes.EVALUATION, processes.TRAINING), "journal": ("broker",),
           "checkpoint": (processes.TRAINING,), "training": (processes.TRAINING,)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to do: faults for ``seconds``, or until there were ``kills`` (0: by time alone).

    After the faults, all work must end within ``settle_seconds``.
    """

    seed: int
    seconds: float
    kills: int = 0
    settle_seconds: float = 600.0

    @property
    def fault_seconds(self) -> float:
        """The longest that faults are done."""
        return self.kills * _SECONDS_A_KILL + _SLACK_SECONDS if self.kills else self.seconds

    @property
    def fewest_kills(self) -> int:
        """With fewer, too little was proven. In no time nobody can be killed."""
        return self.kills or int(self.seconds > 0)


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What came of it; ``wrong`` is empty when everything is as promised."""

    seed: int
    fault_seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    submits: int = 0
    resent: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    adapter: bool = False
    orders: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def not_reached(self) -> list[str]:
        """The crash points, each by process, at which nobody was killed."""
        return sorted({f"{name}.{point}" for name, point in crash_pairs()} - self.tally.points.keys())

    @property
    def verdict(self) -> str:
        """The last line."""
        counts = " ".join(f"{name}={number}" for name, number in sorted(self.jobs.items()))
        tasks = sum(sum(states.values()) for states in self.tasks.values())
        said = (f"seed={self.seed} seconds={self.fault_seconds:.0f} kills={self.tally.killed} "
                f"freezes={self.tally.freezes.total()} restarts={self.tally.restarts.total()} "
                f"jobs={sum(self.jobs.values())} {counts} tasks={tasks} steps={self.steps}".replace("  ", " "))
        return f"chaos: FAIL {said}: {self.wrong[0]}" if self.wrong else f"chaos: PASS {said}"

    def document(self) -> dict[str, Any]:
        """For ``chaos.json``."""
        kills: dict[str, dict[str, int]] = {}
        for (process, kind), number in sorted(self.tally.kills.items()):
            kills.setdefault(process, {})[str(kind)] = number
        return {"seed": self.seed, "seconds": round(self.fault_seconds, 1), "passed": not self.wrong,
                "wrong": self.wrong, "kills_total": self.tally.killed, "kills": kills,
                "crash_points": dict(sorted(self.tally.points.items())), "not_reached": self.not_reached,
                "freezes": dict(self.tally.freezes),
                "restarts": dict(self.tally.restarts), "submits": self.submits, "resent": self.resent,
                "jobs": self.jobs, "tasks": self.tasks, "orders": self.orders,
                "adapter": self.adapter, "steps": self.steps}


def crash_pairs() -> list[tuple[str, str]]:
    """Which process can be killed at which crash point."""
    return [(name, point) for point in sorted(crashpoints.POINTS) for name in _OWNERS[point.partition(".")[0]]]


class UserFailedError(Exception):
    """The user, or the caretaker, met an answer that nobody should ever get."""


class Campaign:
    """One run of an order in a folder of its own; :meth:`end` leaves no process behind, whatever happened."""

    def __init__(self, order: Order, folder: Path, say: Callable[[str], None]) -> None:
        self._order = order
        self._folder = folder
        self._say = say
        self._plans = folder / "plans"
        for made in (self._plans, folder / "files"):
            made.mkdir()
        self._installation = Installation(folder, SETTINGS)
        self._installation.settings[crashpoints.PLANS_KEY] = str(self._plans)
        suites.write(self._installation.home.suites / "held-out", plan.suite(order.seed), kind="loss")
        self._breaker = Breaker(self._installation, self._plans, order.seed)
        self._user = User(self._installation.home, order.seed, folder)
        self._caretaker = Caretaker(self._installation.home, order.seed, folder / proof.BACKUPS)
        self._operator = Operator(self._installation.home, order.seed)
        self._people: tuple[Person, ...] = (self._user, self._caretaker, self._operator)
        self.outcome = Outcome(seed=order.seed, tally=self._breaker.tally, adapter=plan.trains_an_adapter(order.seed))
        if self.outcome.adapter:
            self._installation.settings |= _ADAPTER

    def run(self) -> Outcome:
        """The whole campaign; what goes wrong is in the outcome."""
        try:
            self._break()
            self._settle()
            self._say("stopping in order ...")
            self._installation.stop()
        except (NotInTimeError, UserFailedError, BrokerUnavailableError) as error:
            self.outcome.wrong.append(str(error))
        else:
            self._installation.settings.clear()
            self.outcome.wrong += proof.prove(self._installation, self._folder, self._say)
        self.outcome.wrong += self._user.wrong + self._operator.wrong
        files.write_file(self._folder / "chaos.json", orjson.dumps(self.outcome.document(), option=orjson.OPT_INDENT_2))
        return self.outcome

    def end(self) -> None:
        """End the people, every fault and every process. May be called at any time and again."""
        for person in self._people:
            person.give_up()
        self._breaker.thaw_all()
        self._breaker.end_commands()
        self._installation.end()
        for person in self._people:
            if person.is_alive():
                person.join()

    def _break(self) -> None:
        self._installation.start()
        wait_until(self._installation.home.request_socket.exists, "the broker's socket", _START_SECONDS)
        for person in self._people:
            person.start()
        order, tally, started = self._order, self._breaker.tally, time.monotonic()
        faults, talk_at = plan.faults(order.seed, crash_pairs()), started + _TALK_SECONDS
        fault = next(faults)
        due = started + fault.pause_seconds
        deadline = started + order.fault_seconds
        while tally.killed < (order.kills or math.inf) and time.monotonic() < deadline:
            self._refuse_without_people()
            now = time.monotonic()
            if due <= now:
                self._breaker.do(fault)
                fault = next(faults)
                due = now + fault.pause_seconds
            self._breaker.tend()
            if talk_at <= now:
                talk_at = now + _TALK_SECONDS
                self._say(f"{now - started:5.0f} s  {tally.killed} kills, {tally.freezes.total()} freezes, "
                          f"{self._user.submits} submits, {len(self._user.dropped)} dropped")
            time.sleep(POLL_SECONDS)
        self.outcome.fault_seconds = time.monotonic() - started
        self.outcome.wrong += too_few_kills(order, tally.killed)

    def _refuse_without_people(self, *, may_have_ended: bool = False) -> None:
        for person in self._people:
            if person.fault is not None or not (may_have_ended or person.is_alive()):
                raise UserFailedError(f"the {person.name} was stopped by {person.fault!r}")

    def _settle(self) -> None:
        self._say("no more faults; waiting until all work has ended ...")
        for person in self._people:
            person.stop()
        self._breaker.mend(_PATIENCE_SECONDS)
        for person in self._people:
            person.join(_PATIENCE_SECONDS)
            if person.is_alive():
                raise NotInTimeError(f"not within {_PATIENCE_SECONDS:g} s: an answer to the {person.name}")
        self.outcome.submits, self.outcome.resent = self._user.submits, sum(person.resent for person in self._people)
        self._refuse_without_people(may_have_ended=True)
        self.outcome.orders = self._operator.orders
        deadline = time.monotonic() + self._order.settle_seconds
        with BrokerClient(self._installation.home) as broker:
            self._operator.resume_all(broker)
            self._wait_until_all_has_ended(broker, deadline)
            # One that was killed too often failed, and what it left is swept by the next one.
            self._caretaker.ask_for_last_copies(broker)
            self._wait_until_all_has_ended(broker, deadline)
            self._count(broker)

    def _wait_until_all_has_ended(self, broker: BrokerClient, deadline: float) -> None:
        talk_at = time.monotonic() + _TALK_SECONDS
        while still := self._still_open(broker):
            if time.monotonic() >= deadline:
                raise NotInTimeError(f"not within {self._order.settle_seconds:g} s: the end of {still}")
            if time.monotonic() >= talk_at:
                talk_at = time.monotonic() + _TALK_SECONDS
                self._say(f"still open: {still}")
            time.sleep(0.3)

    def _still_open(self, broker: BrokerClient) -> str:
        """What is not done yet, for people; empty when all is."""
        home = self._installation.home
        waiting = [str(path.relative_to(home.inbox)) for path in home.inbox.rglob("*") if path.is_file()]
        if waiting:
            return f"{len(waiting)} files in the inbox ({waiting[0]})"
        jobs = [job for job in (*_all_jobs(broker), *_all_jobs(broker, *TASKS)) if job.state not in ENDED]
        if not jobs:
            return ""
        overview = ask_patiently(broker, GetOverview(request_id=new_request_id()), Overview, _ANSWER_SECONDS)
        return (f"{len(jobs)} jobs (" + ", ".join(f"{job.id} {job.state}" for job in jobs[:5])
                + f"); {overview.waiting_reason}")

    def _count(self, broker: BrokerClient) -> None:
        jobs = _all_jobs(broker)
        for job in jobs:
            self.outcome.jobs[job.state.value] = self.outcome.jobs.get(job.state.value, 0) + 1
        overview = ask_patiently(broker, GetOverview(request_id=new_request_id()), Overview, _ANSWER_SECONDS)
        self.outcome.steps = overview.step
        tasks = _all_jobs(broker, *TASKS)
        for task in tasks:
            states = self.outcome.tasks.setdefault(task.kind.value, {})
            states[task.state.value] = states.get(task.state.value, 0) + 1
        ended = self._user.cancelled | self._operator.skipped
        self.outcome.wrong += set_aside_wrongly(jobs, self._user.bad, ended) + failed_wrongly(tasks)
        self.outcome.wrong += fed_wrongly(tasks, jobs)
        champion = ask_patiently(broker, GetLearning(request_id=new_request_id()), Learning, _ANSWER_SECONDS).champion
        if champion is not None:
            link = self._installation.home.champion
            wait_until(lambda: link.is_symlink() and link.readlink().name == champion.checkpoint,
                       "the link that leads to the champion", _PATIENCE_SECONDS)
        lost = self._user.dropped - {job.digest for job in jobs}
        self.outcome.wrong += [f"the dropped file with digest {digest[:12]} is no job" for digest in sorted(lost)]
        if not self.outcome.jobs.get("succeeded"):
            self.outcome.wrong.append("no job succeeded: nothing was proven")
        self.outcome.wrong += [f"no {kind} succeeded: nothing was proven of it" for kind in LAST_COPIES
                               if not self.outcome.tasks.get(kind, {}).get("succeeded")]


def too_few_kills(order: Order, killed: int) -> list[str]:
    """What is wrong with so many kills that met somebody."""
    if killed >= order.fewest_kills:
        return []
    return [f"only {killed} of {order.fewest_kills} kills met anybody within {order.fault_seconds:g} s: too little was "
            "proven"]


def set_aside_wrongly(jobs: Sequence[JobView], bad: Set[str], ended: Set[str]) -> list[str]:
    """What was set aside though nothing was wrong with it, and what was not though it had to be.

    Args:
        jobs: as they are at the end.
        bad: digests of files with too many bad rows.
        ended: jobs that somebody wanted ended.
    """
    wrong = [f"{job.id} ended {job.state.value}: {job.reason}" for job in jobs
             if job.state in (JobState.QUARANTINED, JobState.FAILED)
             or (job.state is JobState.REJECTED and job.digest not in bad)
             or (job.state is JobState.CANCELLED and job.id not in ended)]
    return wrong + [f"{job.id} has too many bad rows, and ended {job.state.value}" for job in jobs
                    if job.state is JobState.SUCCEEDED and job.digest in bad]


def _all_jobs(broker: BrokerClient, *kinds: JobKind) -> list[JobView]:
    """All jobs of these kinds, newest first; without any, those that a file is trained by."""
    found: list[JobView] = []
    while True:
        before = found[-1].number if found else None
        page = ask_patiently(broker, ListJobs(request_id=new_request_id(), kinds=kinds or (JobKind.TRAIN,),
                                                before_number=before), JobList,
                             _ANSWER_SECONDS).jobs
        if not page:
            return found
        found += page
