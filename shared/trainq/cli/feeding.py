"""Where ``trainq watch`` gets its picture from: what the status service publishes, else the broker, else the file.

Nothing here waits for an answer, so that a key is heard at once whoever is away. A source that comes back is used again
by itself: sockets connect anew, and requests are sent again.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from trainq import deltas, messages, stephistory
from trainq.cli import picturing
from trainq.cli.console import Console
from trainq.cli.context import Context
from trainq.cli.screen import View
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, ProtocolError
from trainq.forecasting import Pace
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import Events, EventView, GetOverview, JobView, Overview, Replay
from trainq.picture import STATUS_TOPIC, StatusPicture
from trainq.transport import Poller, Subscriber, new_context

# Without a word of the status service for so long the next source is asked. It says something each second.
QUIET_SECONDS = 2.5
_ASK_SECONDS = 1.0
# A request that got no answer is not sent more often than this: whoever comes back would answer them all.
_AGAIN_SECONDS = 5.0
EVENTS_KEPT = 50
_STEPS_KEPT = 2000
_TAIL_BYTES = 1 << 18


class Feed:
    """The newest :class:`~trainq.cli.screen.View`, as far as it is known. A context manager; one thread's."""

    def __init__(self, context: Context, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        # What is said about a source that fails would spoil the screen, which says it itself.
        self._quiet = Context(Console(io.StringIO(), io.StringIO(), json=False, environment={}), context.environment)
        self._monotonic = monotonic
        self._client = BrokerClient(context.home)
        self._zmq = new_context()
        self._subscriber = Subscriber(self._zmq, context.home.status_socket,
                                      (STATUS_TOPIC, deltas.DELTA_TOPIC, deltas.BEAT_TOPIC))
        self.poller = Poller()
        self.poller.watch(self._subscriber)
        self.poller.watch(self._client.endpoint)
        self._picture: StatusPicture | None = None
        self._follower = deltas.Follower()
        self._source, self._heard_at = "", -QUIET_SECONDS
        self._overview_asked_at = self._events_asked_at = self._file_read_at = -_AGAIN_SECONDS
        self._events = deque[EventView](maxlen=EVENTS_KEPT)
        self._events_of: tuple[str, int] = ("", 0)
        self._steps = Steps(context.home.metrics)
        self._pace = Pace()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None,
                 _traceback: TracebackType | None) -> None:
        self._client.close()
        self._zmq.destroy(linger=0)

    def view(self) -> View:
        """Take in what has come, ask for what is missing, and give what is known now."""
        now = self._monotonic()
        for topic, payload in self._subscriber.drain():
            self._hear(topic, payload, now)
        for reply in self._client.take_posted():
            if isinstance(reply, Overview):
                self._overview_asked_at = now - _AGAIN_SECONDS + _ASK_SECONDS
                if now - self._heard_at >= QUIET_SECONDS or self._source != "status":
                    self._picture, self._source, self._heard_at = picturing.fold(self._context, reply), "broker", now
            elif isinstance(reply, Events):
                self._take_events(reply)
        self._ask(now)
        return self._made(now)

    def _hear(self, topic: bytes, payload: bytes, now: float) -> None:
        follower = self._follower
        try:
            if topic == STATUS_TOPIC:
                follower.whole(messages.decode_as(StatusPicture, payload))
            elif topic == deltas.DELTA_TOPIC:
                follower.delta(messages.decode_as(deltas.Delta, payload))
            else:
                follower.beat(messages.decode_as(deltas.Beat, payload))
        except (ProtocolError, msgspec.MsgspecError):
            return  # another version's: the broker is asked
        if follower.picture is not None and not follower.is_behind:
            self._picture, self._source, self._heard_at = follower.picture, "status", now

    def _ask(self, now: float) -> None:
        """Ask for what the status service does not say: the picture, if it is silent, and what happened last."""
        quiet = self._source != "status" or now - self._heard_at >= QUIET_SECONDS
        if quiet and now - self._overview_asked_at >= _AGAIN_SECONDS:
            self._overview_asked_at = now
            self._client.post(GetOverview(request_id=new_request_id()))
        if now - self._heard_at >= QUIET_SECONDS and now - self._file_read_at >= _ASK_SECONDS:
            self._file_read_at = now
            self._read_file()
        known = self._picture
        if known is not None and self._source != "status.json" and (known.journal_id, known.seq) != self._events_of \
                and now - self._events_asked_at >= _ASK_SECONDS:
            self._events_asked_at = now
            journal_id, seq = self._events_of
            after = max(0, known.seq - EVENTS_KEPT, seq if journal_id == known.journal_id and seq < known.seq else 0)
            self._client.post(Replay(request_id=new_request_id(), after_seq=after, limit=EVENTS_KEPT))

    def _read_file(self) -> None:
        try:
            seen = picturing.last_written(self._quiet, BrokerUnavailableError(""))
        except BrokerUnavailableError:
            return
        self._picture, self._source = seen.picture, "status.json"

    def _take_events(self, page: Events) -> None:
        journal_id, seq = self._events_of
        if page.journal_id != journal_id or page.head_seq < seq:
            self._events.clear()  # another journal, or one that was put back
        last = self._events[-1].seq if self._events else 0
        self._events.extend(event for event in page.events if event.seq > last)
        self._events_of = (page.journal_id, page.head_seq)

    def _made(self, now: float) -> View:
        wall, known = time.time(), self._picture
        if known is None:
            return View(home=str(self._context.home.root), now=wall)
        training = next((job for job in known.running if job.kind is JobKind.TRAIN), None)
        return View(home=str(self._context.home.root), picture=known, source=self._source,
                    age_seconds=max(0.0, wall - known.at), now=wall, losses=self._steps.losses(training),
                    events=list(self._events), seconds_left=self._seconds_left(training, now))

    def _seconds_left(self, training: JobView | None, now: float) -> float | None:
        if training is None or training.progress is None:
            return None
        self._pace.note(training.progress.step, now)
        return self._pace.seconds_left(training.progress, now)

    def document(self, view: View) -> dict[str, object]:
        """The view for JSON: the picture, where it came from, and its age."""
        if view.picture is None:
            return {"source": "", "age_seconds": None}
        return picturing.Sighting(view.picture, view.source, view.age_seconds).document()


class Steps:
    """The losses of the job that is trained, from its history on disk; only what came since is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._job = ""
        self._offset = 0
        self._losses = deque[float](maxlen=_STEPS_KEPT)

    def losses(self, job: JobView | None) -> list[float]:
        """Those of its last steps, in order; none of no job."""
        if job is None:
            return []
        if job.id != self._job:
            self._begin(job.id)
        try:
            with stephistory.path_of(self._folder, job.id).open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size < self._offset:
                    self._begin(job.id)  # cut back to the last checkpoint
                if not self._offset and size > _TAIL_BYTES:
                    stream.seek(size - _TAIL_BYTES)
                    stream.readline()
                else:
                    stream.seek(self._offset)
                self._offset = stream.tell()
                for line in stream.read(4 * _TAIL_BYTES).splitlines(keepends=True):
                    if not line.endswith(b"\n"):
                        break  # being written
                    self._offset += len(line)
                    if (step := stephistory.decoded(line)) is not None:
                        self._losses.append(step.loss)
        except OSError:
            pass  # not begun, or moved away
        return list(self._losses)

    def _begin(self, job: str) -> None:
        self._job, self._offset = job, 0
        self._losses.clear()
