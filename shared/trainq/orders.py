"""What people order and ask for, as calls to the broker: the command line and HTTP decide nothing of it twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from trainq.client import DEFAULT_TIMEOUT_SECONDS, BrokerClient
from trainq.config import DatagenSettings, GeneratorSettings, Home, ScheduleSettings
from trainq.errors import InputError, NotFoundError, TrainqError, UsageError
from trainq.ids import new_request_id
from trainq.jobs import ChampionView, JobState
from trainq.messages import (
    Accepted,
    Cancel,
    Champions,
    Done,
    GenerateTask,
    GetChampions,
    GetLearning,
    GetOverview,
    JobDetail,
    JobList,
    JobView,
    Learning,
    LiftHold,
    ListJobs,
    Overrides,
    Overview,
    Promote,
    PublishTask,
    Receipt,
    Retry,
    RollBack,
    ShowJob,
    SubmitTask,
    Task,
    scheduled_task,
)

# Of 1000 jobs at most in one answer; with results and reasons of the greatest length this stays under 4 MiB.
PAGE = 250
# Of a seed that nobody has named. Those of suites are above.
_SEED_BYTES = 7
# Jobs of one number: a train job and its preparation.
_OF_ONE_NUMBER = 2


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job that something was ordered for; not ``changed``: it was so already."""

    id: str
    state: str
    changed: bool


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Who is champion now; not ``changed``: it was so already."""

    champion: str
    changed: bool


def end_job(broker: BrokerClient, job: str, reason: str, *, keep: bool) -> Outcome:
    """Have a job ended, with or without the steps that are done."""
    done = broker.call(Cancel(request_id=new_request_id(), job=job, reason=reason, keep=keep), Done)
    return _outcome(broker, job, done)


def retry_job(broker: BrokerClient, job: str) -> Outcome:
    """Have a job tried again that was set aside or cancelled."""
    return _outcome(broker, job, broker.call(Retry(request_id=new_request_id(), job=job), Done))


def release_job(broker: BrokerClient, job: str) -> Outcome:
    """Have a job trained all the same that is held for its quality."""
    return _outcome(broker, job, broker.call(LiftHold(request_id=new_request_id(), job=job), Done))


def state_of(broker: BrokerClient, job: str) -> JobState:
    """As what a job stands in the journal now."""
    return broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail).job.state


def running_job(broker: BrokerClient) -> str:
    """The train job that runs.

    Raises:
        UsageError: there is none.
    """
    running = broker.call(GetOverview(request_id=new_request_id()), Overview).training
    if running is None:
        raise UsageError("nothing is being trained", mend="name the job")
    return running.id


def _outcome(broker: BrokerClient, job: str, done: Done) -> Outcome:
    return Outcome(id=job, state=state_of(broker, job).value, changed=done.changed)


def jobs_page(broker: BrokerClient, ask: ListJobs,
              timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> tuple[list[JobView], int | None]:
    """Up to about ``ask.limit`` jobs, newest first, and the ``before_number`` of the next page; None: that is all.

    The broker's page may end between two jobs of one number. Those of its last number come with the next page, so that
    none comes twice and none is left out.
    """
    asked = msgspec.structs.replace(ask, request_id=new_request_id(), limit=max(ask.limit, _OF_ONE_NUMBER + 1))
    page = broker.call(asked, JobList, timeout_seconds=timeout_seconds).jobs
    if not page:
        return [], None
    if len(ask.kinds) == 1:
        return page[:ask.limit], page[:ask.limit][-1].number
    last = page[-1].number
    whole = [job for job in page if job.number != last]
    return (whole, last + 1) if whole else (page, last)


def all_jobs(broker: BrokerClient, ask: ListJobs,
             timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Iterator[JobView]:
    """Jobs, newest first, asked for page by page."""
    before: int | None = None
    while True:
        asked = msgspec.structs.replace(ask, before_number=before, limit=PAGE)
        page, before = jobs_page(broker, asked, timeout_seconds)
        yield from page
        if before is None:
            return


def rule_task(settings: ScheduleSettings, name: str) -> Task:
    """What the rule of that name asks for.

    Raises:
        NotFoundError: there is no such rule.
    """
    rule = settings.all_rules.get(name)
    if rule is None or not rule.task:
        raise NotFoundError(f"the schedule has no rule {name}", mend="trainq schedule list shows them")
    return scheduled_task(rule)


def learning_of(broker: BrokerClient) -> Learning:
    """What the journal knows of what the model can do."""
    return broker.call(GetLearning(request_id=new_request_id()), Learning)


def move_champion(broker: BrokerClient, request: Promote | RollBack) -> Moved:
    """Have another checkpoint be champion."""
    changed = broker.call(request, Done).changed
    champion = learning_of(broker).champion
    return Moved(champion=champion.checkpoint if champion is not None else "", changed=changed)


def roll_back(broker: BrokerClient, to: str | None, reason: str) -> Moved:
    """Have a checkpoint that was champion be it again: that of before, unless one is named.

    Whoever was rolled back from is passed over, so that each further one goes further back.

    Raises:
        UsageError: there was none before.
    """
    wanted = to or learning_of(broker).previous
    if not wanted:
        raise UsageError("there was no champion before this one that nobody has rolled back from",
                         mend="trainq champion --history shows them all; trainq rollback --to NAME goes to any of them")
    return move_champion(broker, RollBack(request_id=new_request_id(), to=wanted, reason=reason))


def champion_moves(broker: BrokerClient) -> Iterator[ChampionView]:
    """All moves of the champion, newest first, asked for page by page."""
    before: int | None = None
    while page := broker.call(GetChampions(request_id=new_request_id(), before_seq=before), Champions).champions:
        yield from page
        before = page[-1].seq


def champion_at(broker: BrokerClient, at: float) -> ChampionView:
    """Who was champion then (wall seconds since 1970).

    Raises:
        NotFoundError: nobody was.
    """
    found = next((move for move in champion_moves(broker) if move.at <= at), None)
    if found is None:
        raise NotFoundError("there was no champion then", mend="trainq champion --history shows since when")
    return found


def deliver_champion(broker: BrokerClient, places: Sequence[str]) -> list[str]:
    """Have the champion put to each of these places once more; the tasks that do it.

    Raises:
        UsageError: there is no place.
        NotFoundError: there is no champion.
    """
    if not places:
        raise UsageError("there is no place to put it to", mend="name one in [promotion] publish_to")
    champion = learning_of(broker).champion
    if champion is None:
        raise NotFoundError("there is no champion yet", mend="trainq evaluate scores the head of the line")
    return [broker.call(SubmitTask(
        request_id=new_request_id(), cause="asked for by a person",
        task=PublishTask(checkpoint=champion.checkpoint, destination=place)), Accepted).job for place in places]


def generate_task(broker: BrokerClient, settings: DatagenSettings, name: str, *, count: int | None = None,
                  level: int | None = None, seed: int | None = None) -> GenerateTask:
    """What makes a file of the generator that is known under ``name``.

    What is not said is as ``[datagen]`` has it; the level is that to which the evaluations have moved it, the seed any.

    Raises:
        NotFoundError: there is no such generator, as far as this process sees: no plug-in is imported.
        UsageError: such a file cannot be made.
    """
    from trainq.generating import selfplay  # with all generators: whoever orders something else needs none

    known = settings.generators.get(name, GeneratorSettings())
    generator = known.use or name
    if level is None:
        moved = {each.generator: each.level for each in learning_of(broker).levels}
        level = selfplay.level_of(name, settings.generators, moved)
    if seed is None:
        seed = int.from_bytes(os.urandom(_SEED_BYTES), "big")
    wish = {"type": "GenerateTask", "generator": generator, "name": name, "count": count or settings.rows,
            "level": level, "seed": seed, "options": known.options}
    try:
        task = msgspec.convert(wish, GenerateTask)
    except msgspec.ValidationError as error:
        raise UsageError(f"no such file can be made: {error}", mend="trainq generate --help") from error
    _refuse_unknown(task, settings)
    return task


def _refuse_unknown(task: GenerateTask, settings: DatagenSettings) -> None:
    """Raise for a generator that is not there, and for a level that it surely has not.

    Here and not in the broker: the datagen asks there for what is configured, and what fails must be a task that
    failed, after which that generator rests and the others go on.
    """
    from trainq.generating import registry, selfplay  # as above

    name = selfplay.source_of(task.options) if task.generator == selfplay.NAME else task.generator
    if name not in (there := registry.names()):
        raise NotFoundError(
            f"there is no generator {name!r}",
            mend=f"[datagen.generators] has: {', '.join(settings.generators) or 'none'}; besides, there are: "
                 f"{', '.join(sorted({*there, selfplay.NAME}))}")
    # How many levels a plug-in has, it says itself, and it is loaded in a child alone.
    if name in registry.BUILT_IN and task.level > (highest := registry.BUILT_IN[name]().levels):
        raise UsageError(f"the level is {task.level}", mend=f"{name} takes one from 1 to {highest}")


def overrides_of(epochs: int | None, columns: dict[str, str] | None, wishes: Sequence[tuple[str, Any]]) -> Overrides:
    """What files are to have otherwise than the configuration says, of single settings.

    Raises:
        UsageError: it says two things of one setting.
    """
    chosen: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    for name, value in wishes:
        if name in chosen:
            raise UsageError(f"it gives two values for {name}", mend="give one")
        chosen[name] = value
    return Overrides(map=columns, **chosen)


def receipt_error(receipt: Receipt) -> TrainqError | None:
    """What is wrong with a submitted item, as its receipt tells; None if it was accepted."""
    if not receipt.error_code:
        return None
    error = TrainqError(receipt.error)
    error.code = receipt.error_code
    error.exit_code = next((cls.exit_code for cls in TrainqError.__subclasses__() if cls.code == receipt.error_code),
                           InputError.exit_code)
    return error


def holding_files(home: Home) -> list[str]:
    """The files in ``control/`` because of which nothing is trained, whatever is resumed."""
    return [name for name in (".pause", ".stop") if (home.control / name).exists()]
