"""What may be looked at: jobs, their steps, events, snapshots, the schedule. It changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from services.web import streams
from services.web.operations import Call, Query
from trainq import orders, snapshots, stephistory, words
from trainq.errors import NotFoundError, TrainqError
from trainq.ids import new_request_id
from trainq.jobs import JobKind, JobState
from trainq.messages import (
    Digest,
    Events,
    EventView,
    GetSchedules,
    JobDetail,
    JobView,
    ListJobs,
    Natural,
    Replay,
    Schedules,
    ShowJob,
)
from trainq.snapshots import Snapshot, SnapshotFacts
from trainq.stephistory import StepMetrics

PAGE = 100
Limit = Annotated[int, Meta(ge=1, le=orders.PAGE)]


class JobsQuery(Query, frozen=True, kw_only=True):
    """Which jobs, newest first; ``before`` is the last page's ``next_before``."""

    kind: tuple[JobKind, ...] = (JobKind.TRAIN,)
    state: tuple[JobState, ...] = ()
    failed: bool = False
    digest: Digest | None = None
    before: Natural | None = None
    limit: Limit = PAGE


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs. Without ``next_before`` it is the last; a page may have fewer jobs than were asked for."""

    jobs: list[JobView]
    next_before: int | None


class StepsQuery(Query, frozen=True, kw_only=True):
    """The steps behind step ``after`` of the job, ``every`` so many of them together."""

    after: Natural = 0
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of a job that follow one another, ``first`` to ``last``, counted from 1.

    ``loss`` is the mean over them, ``learning_rate`` the last one's, ``grad_norm`` the highest (null where one was no
    number); ``tokens`` and ``seconds`` are sums.
    """

    first: int
    last: int
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens: int
    seconds: float


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a job's history. ``next_after`` is where the next one begins; null: that is all there is now."""

    job: str
    stretches: list[Stretch]
    next_after: int | None


class EventsQuery(Query, frozen=True, kw_only=True):
    """The events behind number ``after``, of one job if it is named."""

    after: Natural = 0
    job: str = ""
    limit: Limit = PAGE


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order. ``head_seq`` is the journal's newest; only a page without events is the end."""

    journal_id: str
    head_seq: int
    events: list[EventView]


class StreamQuery(Query, frozen=True, kw_only=True):
    """Behind which event it begins (unset: the newest), of one job if it is named. ``Last-Event-ID`` wins."""

    after: Natural | None = None
    job: str = ""


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot, or why it cannot be read."""

    snapshot: str
    size_bytes: int = 0
    facts: SnapshotFacts | None = None
    error: str = ""


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """All snapshots, newest generation first."""

    snapshots: list[SnapshotView]


async def list_jobs(call: Call) -> Jobs:
    query: JobsQuery = call.query
    ask = ListJobs(request_id="", kinds=query.kind, states=query.state, failed_only=query.failed, digest=query.digest,
                   before_number=query.before, limit=query.limit)
    page, next_before = await call.site.asker.ask(lambda broker: orders.jobs_page(broker, ask))
    return Jobs(jobs=page, next_before=next_before)


async def show_job(call: Call) -> JobDetail:
    job = words.job_id(call.path("job"))
    return await call.site.asker.ask(
        lambda broker: broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail))


async def job_metrics(call: Call) -> Steps:
    job, query = words.job_id(call.path("job")), call.query
    try:
        return await call.site.asker.read(lambda: _steps(call, job, query))
    except FileNotFoundError:
        raise NotFoundError(f"no step of {job} is recorded",
                            mend=f"/api/v1/jobs/{job} says where it stands") from None


def _steps(call: Call, job: str, query: StepsQuery) -> Steps:
    history = stephistory.read(stephistory.path_of(call.site.home.metrics, job))
    wanted = (step for step in history if step.job_step > query.after)
    found = list(itertools.islice(_stretches(wanted, query.every), query.limit))
    return Steps(job=job, stretches=found, next_after=found[-1].last if len(found) == query.limit else None)


def _stretches(steps: Iterator[StepMetrics], every: int) -> Iterator[Stretch]:
    while True:
        count, loss, tokens, seconds = 0, 0.0, 0, 0.0
        norm: float | None = 0.0
        first = last = None
        for step in itertools.islice(steps, every):
            first, last = first or step, step
            count, loss = count + 1, loss + step.loss
            tokens, seconds = tokens + step.tokens, seconds + step.seconds
            norm = None if norm is None or step.grad_norm is None else max(norm, step.grad_norm)
        if first is None or last is None:
            return
        yield Stretch(first=first.job_step, last=last.job_step, loss=loss / count, learning_rate=last.learning_rate,
                      grad_norm=norm, tokens=tokens, seconds=seconds)


async def events(call: Call) -> EventPage:
    query: EventsQuery = call.query
    ask = Replay(request_id=new_request_id(), after_seq=query.after, limit=query.limit,
                 job=words.job_id(query.job) if query.job else "")
    page = await call.site.asker.ask(lambda broker: broker.call(ask, Events))
    return EventPage(journal_id=page.journal_id, head_seq=page.head_seq, events=page.events)


async def event_stream(call: Call) -> streams.EventStream:
    query: StreamQuery = call.query
    after = streams.place_in(call.request.headers.get("last-event-id"), query.after)
    job = words.job_id(query.job) if query.job else ""
    return streams.EventStream(call.site, streams.journal_stream(call.site, after, job))


async def status_stream(call: Call) -> streams.EventStream:
    return streams.EventStream(call.site, streams.picture_stream(call.site))


async def list_snapshots(call: Call) -> Snapshots:
    return await call.site.asker.read(lambda: Snapshots(snapshots=[
        _snapshot_view(path) for path in snapshots.list_snapshots(call.site.home.snapshots)]))


def _snapshot_view(path: Any) -> SnapshotView:
    try:
        return _view(snapshots.read(path))
    except TrainqError as error:
        return SnapshotView(snapshot=path.name, error=str(error))


def _view(found: Snapshot) -> SnapshotView:
    return SnapshotView(snapshot=found.name, size_bytes=found.size_bytes, facts=found.facts)


async def show_snapshot(call: Call) -> SnapshotView:
    name, store = words.generation(call.path("name")), call.site.home.snapshots
    return await call.site.asker.read(lambda: _view(snapshots.find(store, name)))


async def schedules(call: Call) -> Schedules:
    return await call.site.asker.ask(
        lambda broker: broker.call(GetSchedules(request_id=new_request_id()), Schedules))
