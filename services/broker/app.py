"""The broker's loop: drain, decide, commit once, then reply and publish (group commit).

Nothing is answered or published before it is on disk. A lease expires only when the socket was found empty and the
broker was awake all the time: a heartbeat that waited behind a slow disk, or behind a broker that was stopped, counts.
A full disk is a state and not an end: reads are answered, writes are refused, and it passes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from services.broker import anchoring
from services.broker.desk import Desk
from services.broker.memory import MemoryGuard, set_ceiling
from services.broker.reading import READS
from services.broker.reserve import Reserve
from services.broker.views import event_message
from trainq import messages
from trainq.errors import BusyError, ProtocolError, StorageFullError, UsageError
from trainq.ids import new_request_id
from trainq.journal import Journal, Recorded
from trainq.logs import Limited
from trainq.messages import AnyReply, AnyRequest, Heartbeat, Lifecycle, Live, ReplyEnvelope
from trainq.service import Process
from trainq.transport import Incoming, Publisher, ReplySocket, new_context

DRAIN_LIMIT = 1024
MAX_WAIT_SECONDS = 1.0
# The broker's own heartbeat, by which its peers also notice that it is a new one.
BEAT_SECONDS = 1.0

_Answer = tuple[Incoming, AnyRequest | ProtocolError, AnyReply]


class Broker:
    """The sockets, the journal and the desk between them."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._journal = Journal.open(process.home.journal)
        self._desk = Desk(self._journal, process.configuration, process.clock, process.log)
        self._context = new_context()
        self._requests = ReplySocket(self._context, process.home.request_socket)
        self._events = Publisher(self._context, process.home.event_socket)
        process.poller.watch(self._requests)
        self._memory = MemoryGuard(process.clock.monotonic)
        self._reserve = Reserve(process.home.root, process.settings.disk.reserve_mib << 20)
        self._limited = Limited(process.log, process.clock.monotonic)
        self._next_beat = 0.0
        self._awake_at = process.clock.monotonic()

    def start(self) -> None:
        """Record that a new life began, if there is room for the record.

        Nothing is recorded in a journal that is older than its checkpoints; what it holds can be read.
        """
        self._desk.copier.sweep()
        self._desk.unfit = anchoring.refuse_if_behind(self._process.home.checkpoints, self._journal.head_seq)
        if self._desk.unfit is not None:
            self._process.log.error("journal_behind", error=str(self._desk.unfit))
            self._process.set_state(Lifecycle.ERROR, str(self._desk.unfit))
            return
        try:
            with self._journal.transaction():
                recorded = [self._journal.append(event, self._process.clock.wall()) for event in self._desk.opening()]
        except StorageFullError as error:
            self._process.log.error("journal_full", error=str(error))
        else:
            self._publish(recorded)
        self._process.set_state(Lifecycle.RUNNING)

    def close(self) -> None:
        self._context.destroy(linger=0)
        self._journal.close()

    def turn(self) -> None:
        """One round: wait, answer all that has come in one commit, then look at the leases."""
        self._process.wait(self._seconds_to_wait())
        now = self._process.clock.monotonic()
        if now - self._awake_at > MAX_WAIT_SECONDS + self._process.settings.broker.heartbeat_seconds:
            self._desk.deadlines.forgive(now)
        self._awake_at = now
        incoming = self._requests.drain(DRAIN_LIMIT)
        if (dropped := self._requests.take_dropped()) > 0:
            self._limited.warning("messages_dropped", number=dropped, reason="more frames than any client sends")
        self._desk.copier.step()
        if incoming:
            self._serve([(message, self._decode(message)) for message in incoming])
        else:
            self._expire()
        self._beat()

    def _serve(self, batch: list[tuple[Incoming, AnyRequest | ProtocolError]]) -> None:
        """Decide all of it in one transaction; once that is on disk, reply, and then publish."""
        recorded: list[Recorded] = []
        try:
            answered = self._journal.write(lambda: self._decide(batch))
            recorded = self._desk.take_recorded()
        except StorageFullError as error:
            if self._reserve.give_up():
                self._process.log.warning("journal_reserve_used", error=str(error))
                self._serve(batch)
                return
            if len(batch) > 1:
                # One by one, so that those who only read are answered all the same.
                for single in batch:
                    self._serve([single])
                return
            self._process.log.error("journal_full", error=str(error))
            answered = [(*batch[0], messages.refusal(error))]
        for answer in answered:
            self._reply(*answer)
        # After the replies, which somebody waits for.
        self._publish(recorded)
        for _, request in batch:
            if isinstance(request, Heartbeat):
                self._events.publish(messages.LIVE_TOPIC + request.service.encode(),
                                     messages.encode(Live(heartbeat=request)))

    def _reply(self, message: Incoming, request: AnyRequest | ProtocolError, reply: AnyReply) -> None:
        payload = self._envelope(message, request, reply)
        if not self._memory.allows(len(payload)):
            if not isinstance(request, READS):
                # It was done, and is said when it is asked for again.
                self._limited.warning("reply_dropped", bytes=len(payload), reason="memory")
                return
            payload = self._envelope(message, request, messages.refusal(BusyError(
                "the broker's memory is taken up by replies that nobody reads",
                mend="ask again in a moment; the same request, or for less at once")))
        if not self._requests.reply(message, payload):
            self._limited.warning("reply_dropped", bytes=len(payload), reason="its sender has gone or does not read")

    def _decide(self, batch: Sequence[tuple[Incoming, AnyRequest | ProtocolError]]) -> list[_Answer]:
        """All replies of one transaction, in which this runs."""
        self._desk.take_recorded()
        answered: list[_Answer] = []
        # A client that waited long has asked several times; what it asked is done once.
        replies: dict[bytes, AnyReply] = {}
        for message, request in batch:
            if message.payload not in replies:
                replies[message.payload] = (messages.refusal(request) if isinstance(request, ProtocolError)
                                            else self._desk.answer(request))
            answered.append((message, request, replies[message.payload]))
        return answered

    def _expire(self) -> None:
        if self._desk.unfit is not None or not self._desk.is_due:
            return
        self._desk.take_recorded()
        try:
            with self._journal.transaction():
                self._desk.expire_leases()
                self._desk.lift_hold()
                self._desk.timetable.tick()
        except StorageFullError as error:
            if self._reserve.give_up():
                return  # the next turn tries again
            self._process.log.error("journal_full", error=str(error))
            self._desk.postpone()
            return
        self._publish(self._desk.take_recorded())

    def _publish(self, recorded: list[Recorded]) -> None:
        self._desk.committed(recorded)
        for entry in recorded:
            message = event_message(entry, self._process.session)
            self._process.log.debug("event", seq=message.seq, type=message.type, job=message.job)
            self._events.publish(messages.EVENT_TOPIC + message.type.encode(), messages.encode(message))

    def _beat(self) -> None:
        """The broker is in its own roster, so that the status shows it like any other."""
        process, now = self._process, self._process.clock.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_SECONDS
        if self._desk.unfit is None:
            self._reserve.lay_by()
        beat = Heartbeat(request_id=new_request_id(), service=process.name, session=process.session, pid=os.getpid(),
                         state=process.state, detail=process.detail, started_at=process.started_at, cause=process.cause)
        self._desk.roster.heard(beat, now)
        self._events.publish(messages.LIVE_TOPIC + process.name.encode(), messages.encode(Live(heartbeat=beat)))

    def _seconds_to_wait(self) -> float:
        if self._desk.copier.is_copying:
            return 0.0
        if self._desk.unfit is not None:
            return MAX_WAIT_SECONDS
        due = self._desk.next_due
        left = MAX_WAIT_SECONDS if due is None else due - self._process.clock.monotonic()
        # Awake when something is due: a turn that a message has woken does nothing else.
        return min(MAX_WAIT_SECONDS, max(0.0, min(left, self._desk.timetable.seconds_left)))

    def _decode(self, message: Incoming) -> AnyRequest | ProtocolError:
        try:
            return messages.decode_request(message.payload)
        except ProtocolError as error:
            self._limited.warning("message_refused", error=str(error)[:500], bytes=len(message.payload))
            return error

    @staticmethod
    def _envelope(message: Incoming, request: AnyRequest | ProtocolError, reply: AnyReply) -> bytes:
        if isinstance(request, ProtocolError):
            return messages.encode(ReplyEnvelope(request_id=messages.request_id_of(message.payload), reply=reply))
        payload = messages.encode(ReplyEnvelope(request_id=request.request_id, reply=reply))
        if len(payload) <= messages.MAX_MESSAGE_BYTES:
            return payload
        too_long = UsageError(f"the reply would have {len(payload)} bytes, over the limit of a message",
                              mend="ask for less at once")
        return messages.encode(ReplyEnvelope(request_id=request.request_id, reply=messages.refusal(too_long)))


def serve(process: Process) -> None:
    """Run the broker until it is told to stop. A failing disk ends it: what fsync did not confirm is unknown."""
    set_ceiling()
    broker = Broker(process)
    try:
        broker.start()
        while not process.stopping:
            broker.turn()
        process.set_state(Lifecycle.STOPPED)
    finally:
        broker.close()
