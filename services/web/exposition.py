"""``/metrics``: the figures of trainq in Prometheus' text format, made anew for each scrape.

A figure comes from the status picture (services, disk, jobs, the model), from the broker (who waits, and the events
since the last scrape), or from the jobs' step histories on disk. What the broker does not answer is left out, and
counters stay what they were; they begin at 0 with each life of this process. A scrape takes a bounded time and a
bounded amount of each; what is beyond is counted by the next one, and ``trainq_exporter_behind_events`` says how much
that is. There is one :class:`Exposition` in a process; scrapes at one time wait for each other.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.web import families
from services.web.stepreading import Steps
from services.web.tallying import Tally
from trainq.config import Home
from trainq.errors import BusyError, TrainqError
from trainq.ids import new_request_id
from trainq.jobs import TASKS, JobKind
from trainq.messages import AnyRequest, Events, GetQueue, JobView, Queue, Replay
from trainq.picture import StatusPicture

CONTENT_TYPE = CONTENT_TYPE_LATEST

# A scrape asks for no more pages than this, of some hundred events each, and waits no longer for each.
_PAGES = 20
_PAGE = 1000
_ANSWER_SECONDS = 2.0

Reply = TypeVar("Reply", bound=msgspec.Struct)


class Asks(Protocol):
    """Who asks the broker: a :class:`trainq.client.BrokerClient`."""

    def call(self, request: AnyRequest, expect: type[Reply], *, timeout_seconds: float = ...) -> Reply:
        """Its reply; raises :class:`TrainqError`."""


class Exposition:
    """What is counted between scrapes, and the scrapes."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._begin("", 0)
        # When tasks of a kind last ended in a state; and what the home took when retention last looked.
        self._task_ends: dict[tuple[str, ...], float] = {}
        self._used_bytes: float | None = None

    def _begin(self, journal_id: str, seq: int) -> None:
        self._journal_id, self._seq, self._head = journal_id, seq, seq
        self._tally = Tally()
        self._steps = Steps(self._home.metrics)

    def render(self, picture: StatusPicture, broker: Asks, now: float) -> bytes:
        """The page, as :data:`CONTENT_TYPE`. Blocks: for the broker some seconds at most, and for the disk.

        Args:
            picture: the newest.
            broker: who is asked; used by one scrape at a time, and not kept.
            now: wall seconds since 1970.

        Raises:
            BusyError: another scrape takes long; the next one will do.
        """
        if not self._lock.acquire(timeout=_ANSWER_SECONDS):
            raise BusyError("another scrape is being answered")
        try:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_Collected(self._scrape(picture, broker, now)))
            return generate_latest(registry)
        finally:
            self._lock.release()

    def _scrape(self, picture: StatusPicture, broker: Asks, now: float) -> Iterator[Metric]:
        queue: Queue | None = None
        with contextlib.suppress(TrainqError):
            queue = broker.call(GetQueue(request_id=new_request_id()), Queue, timeout_seconds=_ANSWER_SECONDS)
            self._catch_up(picture, broker)
        self._steps.look()
        self._remember(picture.background_tasks.recent)
        yield from families.of_picture(picture, now)
        yield from families.gauge("trainq_exporter_broker_up", "1 if the broker has answered this scrape",
                                  queue is not None)
        yield from families.gauge("trainq_exporter_behind_events", "Events that are not counted yet",
                                  max(0, self._head - self._seq))
        if queue is not None:
            yield from families.of_queue(queue, now)
        yield from families.of_tally(self._tally)
        yield from families.of_learning(self._tally)
        yield from families.of_steps(self._steps)
        yield from self._training(picture)
        yield from families.counter("trainq_journal_events", "Events in the journal", picture.seq)
        yield from families.gauge("trainq_journal_bytes", "Size of the journal on disk", self._journal_bytes())
        yield from families.gauges("trainq_task_last_end_timestamp_seconds", "When a maintenance task of this kind "
                                   "last ended so", ("kind", "state"), self._task_ends)
        yield from families.gauge("trainq_home_used_bytes", "What the home took before retention last worked",
                                  self._used_bytes)

    def _catch_up(self, picture: StatusPicture, broker: Asks) -> None:
        """Count the events since the last scrape, up to a limit; the first one says where counting begins."""
        if not self._journal_id:
            head = self._page(broker, 2**62, 1)
            self._begin(head.journal_id, head.head_seq)
            running = [job for job in (*picture.running, *picture.background_tasks.running) if job.started_at]
            self._tally.begin((job.id, job.started_at or 0.0) for job in running)
            self._follow((job.id for job in running if job.kind is JobKind.TRAIN), from_start=False)
        for _ in range(_PAGES):
            page = self._page(broker, self._seq, _PAGE)
            self._head = page.head_seq
            if page.journal_id != self._journal_id or page.head_seq < self._seq:
                # Another journal, or an older copy of it: what is counted from here on is of that one.
                self._begin(page.journal_id, page.head_seq)
                return
            for event in page.events:
                self._tally.take(event)
                self._seq = event.seq
            if not page.events or self._seq >= page.head_seq:
                break
        self._follow(self._tally.take_begun(), from_start=True)
        # One that has begun before, and goes on: what it does from now on.
        self._follow((job.id for job in picture.running if job.kind is JobKind.TRAIN and job.attempts > 1),
                     from_start=False)

    def _page(self, broker: Asks, after_seq: int, limit: int) -> Events:
        return broker.call(Replay(request_id=new_request_id(), after_seq=after_seq, limit=limit), Events,
                           timeout_seconds=_ANSWER_SECONDS)

    def _follow(self, jobs: Iterable[str], *, from_start: bool) -> None:
        for job in jobs:
            self._steps.follow(job, from_start=from_start)

    def _training(self, picture: StatusPicture) -> Iterator[Metric]:
        """Of the job that is trained, what only its history says."""
        last = self._steps.last
        running = {job.id for job in picture.running}
        if picture.training and last is not None and self._steps.last_job in running:
            yield from families.gauge("trainq_training_gradient_norm", "Norm of the last step's gradient, before "
                                      "clipping", last.grad_norm)
            yield from families.gauge("trainq_training_out_of_band_steps", "For so many steps in a row the loss has "
                                      "been out of its band", last.out_of_band)

    def _remember(self, ended: Iterable[JobView]) -> None:
        # Newest first: the figures of the newest are set last.
        for job in reversed(list(ended)):
            if job.kind in TASKS and job.ended_at is not None:
                self._task_ends[job.kind.value, job.state.value] = job.ended_at
            facts = (job.result or {}).get("facts") if job.kind is JobKind.RETENTION else None
            if isinstance(facts, dict) and isinstance(facts.get("used_bytes"), int):
                self._used_bytes = facts["used_bytes"]

    def _journal_bytes(self) -> float | None:
        """The database and its write-ahead log; None if they cannot be looked at."""
        log = self._home.journal.with_name(self._home.journal.name + "-wal")
        try:
            return self._home.journal.stat().st_size + (log.stat().st_size if log.exists() else 0)
        except OSError:
            return None


class _Collected(Collector):
    """The families of one scrape, for the registry that writes them down."""

    def __init__(self, found: Iterator[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._found
