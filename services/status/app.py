"""The status loop: ask the broker, fold, publish what changed, and now and then the whole.

It never slows anybody: it asks one cheap question every ``[status] interval_seconds``, and a broker that does not
answer only makes the picture older, which the picture says. The broker's events are not read here, but for those that
tell how long jobs take; they wake: after one the question is asked sooner, at most four times a second, so that a
change is seen soon. A subscriber that does not read has a few messages kept for it, and then loses them; the numbers
of :mod:`trainq.deltas` tell it so. A disk that does not take ``status.json`` stops nothing: the picture is published
all the same, and its detail of this process says why.
"""

from __future__ import annotations

import os
from collections import deque

import msgspec
import orjson

from services.status import machine
from services.status.copies import Copies
from services.status.lives import Lives
from services.status.timing import EVENTS, Timing
from trainq import alarms, deltas, files, messages, picture
from trainq.errors import ProtocolError, StorageError, StorageFullError
from trainq.figures import Observations
from trainq.ids import new_request_id
from trainq.liveness import is_alive
from trainq.messages import GetOverview, Lifecycle, Overview, ReplyEnvelope, ServiceView
from trainq.picture import StatusPicture
from trainq.service import Peer, Process, Restart, Watchdog
from trainq.supervising import Supervisor
from trainq.transport import Publisher, ReplySocket, Subscriber, new_context

# However many events there are, the broker is asked no more often than this; the first ones of a flood at once.
MOST_QUESTIONS_A_SECOND = 4
BEAT_SECONDS = 1.0
# A whole picture comes so often though nothing has changed.
MOST_SECONDS_BETWEEN_PICTURES = 5.0
# Where nothing was published since, retention may still have taken something away.
COPIES_SECONDS = 60.0
# A picture has 100 KiB at most or so; what a subscriber or a client has not read of these, it loses.
QUEUED_MESSAGES, QUEUED_REPLIES = 64, 4
_REQUESTS_AT_ONCE = 64
_LOOKED_AT = frozenset(messages.EVENT_TOPIC + name.encode() for name in EVENTS)


class Status:
    """Keeps the newest overview and its age, and what it has seen beside it. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process, topics=())
        self._context = new_context()
        self._publisher = Publisher(self._context, process.home.status_socket, QUEUED_MESSAGES)
        self._requests = ReplySocket(self._context, process.home.picture_socket, QUEUED_REPLIES)
        self._events = Subscriber(self._context, process.home.event_socket, (messages.EVENT_TOPIC,))
        process.poller.watch(self._requests)
        process.poller.watch(self._events)
        self._overview: Overview | None = None
        self._overview_at = 0.0
        # When the last questions were asked.
        self._asked: deque[float] = deque(maxlen=MOST_QUESTIONS_A_SECOND)
        self._trouble: dict[str, str] = {}
        before = _last_observations(process)
        self._observed = msgspec.structs.replace(before, session=process.session, n=0)
        self._timing = Timing(before)
        self._lives = Lives(process.home.logs, before.lives)
        self._gpu = machine.GpuLook(process.clock.monotonic)
        self._picture: StatusPicture | None = None
        # Whether something has changed since a whole picture was published, and when that was.
        self._is_new, self._whole_at = True, float("-inf")
        self._look_at = self._beat_at = float("-inf")
        self._copies = Copies(process.home)
        self._copies_of, self._copies_at = "", float("-inf")
        self._watchdog = Watchdog(process, picture.SERVICES, Supervisor.of_this_program(),
                                  before=[Restart(alarm.subject, alarm.since, alarm.text) for alarm in before.hung])
        self._bind_loopback()

    def close(self) -> None:
        """Say goodbye, show a last picture, and drop the connections."""
        try:
            self._process.set_state(Lifecycle.STOPPED)
            self._peer.close()
            self._show(is_last=True)
        finally:
            self._context.destroy(linger=0)

    def turn(self) -> None:
        """One round: ask, show each answer, wait until it is time to ask again; unanswered, show how old it all is."""
        clock, shown = self._process.clock, False
        self._peer.beat()
        self._look()
        self._peer.client.post(GetOverview(request_id=new_request_id()))
        self._asked.append(clock.monotonic())
        ask_at = self._asked[-1] + self._process.settings.status.interval_seconds
        while not self._process.stopping and (left := ask_at - clock.monotonic()) > 0:
            self._watchdog.look()
            self._peer.wait(min(left, max(0.0, self._beat_at - clock.monotonic())))
            if self._hear_events():
                ask_at = min(ask_at, self._asked[0] + 1.0 if len(self._asked) == MOST_QUESTIONS_A_SECOND else 0.0)
            for reply in self._peer.take_posted():
                if isinstance(reply, Overview):
                    self._take(reply)
                    shown = True
            self._answer()
            self._peer.beat()
            self._beat()
        if not shown:
            self._show()

    def _take(self, overview: Overview) -> None:
        clock = self._process.clock
        self._overview, self._overview_at = overview, clock.monotonic()
        self._timing.saw(overview, clock.monotonic(), clock.wall())
        self._process.set_state(Lifecycle.RUNNING, "; ".join(filter(None, self._trouble.values())))
        self._show()

    def _hear_events(self) -> bool:
        """Whether there were any; those that tell how long jobs take are looked at."""
        heard = self._events.drain()
        for topic, payload in heard:
            if topic in _LOOKED_AT:
                try:
                    self._timing.heard(messages.decode_event(payload))
                except ProtocolError as error:
                    self._process.log.warning("message_not_understood", topic=topic.decode(), error=str(error))
        return bool(heard)

    def _look(self) -> None:
        """Look at the machine and the copies, if it is time to."""
        clock = self._process.clock
        now, shown = clock.monotonic(), self._picture
        if (devices := self._gpu.take()) is not None:
            self._observe(gpu=devices, gpu_at=clock.wall())
        head = self._overview.checkpoint if self._overview is not None else ""
        if head != self._copies_of or now >= self._copies_at + COPIES_SECONDS:
            self._copies_of, self._copies_at = head, now
            self._observe(generations=self._copies.last_generations(), snapshots=self._copies.last_snapshots(),
                          copies_at=clock.wall())
        if now >= self._look_at and shown is not None:
            self._look_at = now + machine.LOOK_SECONDS
            self._lives.measured(machine.memory_of({service.name: service.pid for service in shown.services
                                                    if service.uptime_seconds is not None and service.pid}))
            self._lives.read_logs([service.name for service in shown.services])
            self._observe(cpu=machine.cpu(), machine_at=clock.wall())

    def _observe(self, **seen: object) -> None:
        self._observed = msgspec.structs.replace(self._observed, **seen)

    def _show(self, *, is_last: bool = False) -> None:
        """Fold; publish what changed, and the whole if it is time to."""
        now, before = self._process.clock.monotonic(), self._picture
        folded = self._fold()
        sessions = {view.name: view.session for view in self._overview.services} if self._overview else {}
        if self._lives.note(folded.services, sessions):
            folded = self._fold()
        if changed := deltas.changes(before, folded):
            self._observe(n=self._observed.n + 1)
            folded = msgspec.structs.replace(folded, n=self._observed.n)
            self._publisher.publish(deltas.DELTA_TOPIC, messages.encode(deltas.Delta(
                v=folded.v, session=folded.session, n=folded.n, at=folded.at, changed=changed)))
            self._is_new = True
        self._picture = folded
        self._observe(alarms=folded.alarms)
        interval = self._process.settings.status.interval_seconds
        if is_last or now - self._whole_at >= (interval if self._is_new else
                                               max(interval, MOST_SECONDS_BETWEEN_PICTURES)):
            self._whole_at = now
            self._publisher.publish(picture.STATUS_TOPIC, messages.encode(folded))
            self._write(orjson.dumps(msgspec.to_builtins(folded), option=orjson.OPT_INDENT_2) + b"\n")
            # What the disk did not take is tried again soon.
            self._is_new = bool(self._trouble.get("disk"))

    def _fold(self) -> StatusPicture:
        process = self._process
        age = process.clock.monotonic() - self._overview_at if self._overview else None
        hung = tuple(alarms.service_hung(each.service, each.reason, each.at) for each in self._watchdog.lately)
        self._observe(hung=hung, lives=self._lives.lives, expected=self._timing.expected,
                      measured=self._timing.measured)
        return picture.fold(
            self._overview, overview_age_seconds=None if age is None else round(age, 3),
            now_wall=process.clock.wall(), is_alive=is_alive,
            silent_after_seconds=picture.silent_after(process.settings.broker), observed=self._observed,
            maker=ServiceView(name=process.name, session=process.session, pid=os.getpid(), state=process.state,
                              detail=process.detail, started_at=process.started_at, age_seconds=0.0))

    def _beat(self) -> None:
        """Each second: I live, and so many changes there were."""
        now = self._process.clock.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_SECONDS
        if self._picture is not None:
            self._publisher.publish(deltas.BEAT_TOPIC,
                                    messages.encode(deltas.beat(self._picture, self._process.clock.wall())))
            if self._is_new:
                self._show()

    def _answer(self) -> None:
        """Give the whole picture to those who have asked for it."""
        for incoming in self._requests.drain(_REQUESTS_AT_ONCE):
            try:
                asked = messages.decode_as(deltas.GetPicture, incoming.payload)
            except ProtocolError as error:
                reply: msgspec.Struct = ReplyEnvelope(request_id=messages.request_id_of(incoming.payload),
                                                      reply=messages.refusal(error))
            else:
                if self._picture is None:
                    self._show()
                assert self._picture is not None
                reply = deltas.PictureEnvelope(request_id=asked.request_id,
                                               reply=deltas.Picture(picture=self._picture))
            # Whoever has gone, or does not read, asks again.
            self._requests.reply(incoming, messages.encode(reply))

    def _bind_loopback(self) -> None:
        port = self._process.settings.status.tcp_port
        if port:
            try:
                self._publisher.bind_loopback(port)
            except OSError as error:
                self._trouble["port"] = f"nothing is published on port {port} ([status] tcp_port): {error}"
                self._process.log.error("port_not_bound", port=port, error=str(error))

    def _write(self, content: bytes) -> None:
        """Replace ``status.json``; a failure is logged when it begins, changes or ends, and hinders nothing."""
        failure = ""
        try:
            files.replace_file(self._process.home.status_file, content)
        except (StorageError, StorageFullError) as error:
            failure = str(error)
        if failure != self._trouble.get("disk", ""):
            self._trouble["disk"] = failure
            if failure:
                self._process.log.warning("picture_not_written", error=failure)
            else:
                self._process.log.info("picture_written_again")


def _last_observations(process: Process) -> Observations:
    """What the last picture in ``status.json`` says; nothing if there is none that can be read."""
    try:
        written = msgspec.json.decode(process.home.status_file.read_bytes(), type=StatusPicture)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return Observations()
    return picture.observations_of(written)


def serve(process: Process) -> None:
    """Run the status until it is told to stop."""
    status = Status(process)
    try:
        process.loop(status.turn, rests=False)  # it takes no work, and watches those who do
    finally:
        status.close()
