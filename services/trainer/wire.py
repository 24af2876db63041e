"""What the agent and the training process say to each other, and the frames it travels in.

One unix socket pair, each message a frame: four bytes of length (big endian) and a msgpack map with a ``type``. No
pickle. Both ends may be slow: the training process drops progress that nobody reads and never waits for it.
"""

from __future__ import annotations

import socket
import struct
from collections import deque

import msgspec

from trainq.config import GuardSettings, LoraSettings, TrainSettings
from trainq.errors import ProtocolError
from trainq.jobs import Effect, Store
from trainq.messages import DamagedGeneration
from trainq.messages.codec import UNDECODABLE

MAX_FRAME_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")
# What a slow agent leaves unread before progress is dropped; everything else waits in memory, a few messages a job.
MAX_WAITING_FRAMES = 64
_READ_BYTES = 1 << 16


class WireMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all messages."""


class Train(WireMessage, frozen=True, kw_only=True, tag=True):
    """Train this job to its end; ``shard`` is the shard's path, ``journal_seq`` how far the agent knows the journal.

    ``name`` and ``digest`` are the file's, which the checkpoints name.
    """

    job: str
    token: int
    shard: str
    shard_digest: str
    settings: TrainSettings
    journal_seq: int
    name: str = ""
    digest: str = ""
    # The highest generation that the journal knows of; the next one is above it.
    newest: int = 0
    effects: tuple[Effect, ...] = ()
    guard: GuardSettings = GuardSettings()


class Cancel(WireMessage, frozen=True, kw_only=True, tag=True):
    """Leave ``job`` at the next step boundary with none of its steps in the weights, whether it is running or not."""

    job: str
    newest: int = 0


class Keep(WireMessage, frozen=True, kw_only=True, tag=True):
    """End ``job``, which is running, at the next step boundary: the steps that are done are all of it.

    ``step``: so many were done, before this process lost some of them with the one before; they are done again first.
    """

    job: str
    step: int = 0


class Checkpoint(WireMessage, frozen=True, kw_only=True, tag=True):
    """Publish the state of ``job``, which is running, at the next step boundary, and go on."""

    job: str


class Restore(WireMessage, frozen=True, kw_only=True, tag=True):
    """Publish this copy of an earlier state as the newest generation, and go on from it: say Ready again."""

    job: str
    store: Store
    name: str
    journal_seq: int
    newest: int = 0


class Rebase(WireMessage, frozen=True, kw_only=True, tag=True):
    """Go on from the merged model of ``source``, the head, with a fresh adapter; say Ready again from that."""

    job: str
    source: str
    lora: LoraSettings
    seed: int
    warmup: bool
    journal_seq: int
    newest: int


class Begin(WireMessage, frozen=True, kw_only=True, tag=True):
    """The broker knows of no checkpoint either: publish the new line as its first generation, and say Ready again."""


class Recorded(WireMessage, frozen=True, kw_only=True, tag=True):
    """What ``job`` waits for is in the journal, the other fingerprint or the effects: now it may go on."""

    job: str


class Stop(WireMessage, frozen=True, kw_only=True, tag=True):
    """Finish the step, publish a checkpoint if there is anything new, and end."""


class Ready(WireMessage, frozen=True, kw_only=True, tag=True):
    """The model line is loaded, from the newest generation that verifies.

    ``begun``: there was none, so a new line is in memory, as generation 0; it is published when :class:`Begin` comes.
    ``damaged`` are the generations that did not verify and were set aside, now or earlier. ``reason`` is why the head
    was published, ``size_bytes`` what it takes on disk.
    """

    fingerprint: dict[str, str]
    head: str
    generation: int
    step: int
    journal_seq: int
    reason: str = ""
    begun: bool = False
    job: str = ""
    job_step: int = 0
    steps_planned: int = 0
    job_done: bool = False
    damaged: list[DamagedGeneration] = []
    seconds: float = 0.0
    size_bytes: int = 0
    made_by: str = ""
    restored_from: int = 0
    effects: tuple[Effect, ...] = ()
    # What is wrong with the head's state; empty if nothing is.
    marks: tuple[str, ...] = ()


class NoLine(WireMessage, frozen=True, kw_only=True, tag=True):
    """There are checkpoints, and none verifies: nothing can be trained before an earlier state is restored."""

    reason: str


class Restoring(WireMessage, frozen=True, kw_only=True, tag=True):
    """So many bytes of the copy are written."""

    job: str
    done_bytes: int
    total_bytes: int


class Saving(WireMessage, frozen=True, kw_only=True, tag=True):
    """A checkpoint of about this size is being written. ``waits``: no step is done until it is; else they go on."""

    size_bytes: int
    waits: bool = True


class TakenBack(WireMessage, frozen=True, kw_only=True, tag=True):
    """The line stands at its newest generation again, and does the job's steps since as before: nothing to decide."""

    job: str
    reason: str


class OtherFingerprint(WireMessage, frozen=True, kw_only=True, tag=True):
    """The job is computed on something else than the head was: the bits do not repeat across this point.

    No step is done before :class:`Recorded` comes, or the job is to be left.
    """

    job: str
    before: dict[str, str]
    after: dict[str, str]


class Deciding(WireMessage, frozen=True, kw_only=True, tag=True):
    """The job's steps are to be others from these on. None is done before :class:`Recorded` comes."""

    job: str
    effects: tuple[Effect, ...]
    reason: str


class Progress(WireMessage, frozen=True, kw_only=True, tag=True):
    """One step is done. ``steps_this_run`` and ``elapsed_seconds`` count from this run's start, for the estimate."""

    job: str
    job_step: int
    steps_planned: int
    global_step: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    steps_this_run: int
    elapsed_seconds: float
    grad_spikes: int = 0
    out_of_band: int = 0


class Published(WireMessage, frozen=True, kw_only=True, tag=True):
    """A new generation is published. ``job`` is empty for the initial one; ``done`` if it covers all of the job.

    ``seconds`` is how long training stood still for it, ``write_seconds`` how long the disk took.
    """

    generation: int
    name: str
    step: int
    reason: str
    seconds: float
    size_bytes: int
    write_seconds: float = 0.0
    job: str = ""
    job_step: int = 0
    done: bool = False
    effects: tuple[Effect, ...] = ()
    marks: tuple[str, ...] = ()


class Finished(WireMessage, frozen=True, kw_only=True, tag=True):
    """All steps of the job are in the published generation named."""

    job: str
    steps_done: int
    steps_planned: int
    global_step: int
    generation: int
    checkpoint: str
    first_loss: float | None
    last_loss: float | None
    # So many steps it was to have, and was cut short; 0 if it was not.
    cut_from: int = 0
    batches_left_out: int = 0


class Cancelled(WireMessage, frozen=True, kw_only=True, tag=True):
    """None of the job's steps is in the weights. ``taken_back``: how many had been."""

    job: str
    taken_back: int


class Failed(WireMessage, frozen=True, kw_only=True, tag=True):
    """The job cannot go on. ``system``: the machine is at fault (disk, memory of others, driver), not the file.

    ``final``: the file is, and trying it again changes nothing.
    """

    job: str
    system: bool
    code: str
    reason: str
    traceback: str = ""
    final: bool = False


ToTraining = Train | Cancel | Keep | Checkpoint | Restore | Rebase | Begin | Recorded | Stop
FromTraining = (
    Ready | NoLine | Saving | OtherFingerprint | Deciding | TakenBack | Progress | Restoring | Published | Finished
    | Cancelled | Failed
)

_encoder = msgspec.msgpack.Encoder()


class Channel:
    """One end of the socket pair; ``incoming`` is the type of what the other end says. Owned by one thread."""

    def __init__(self, end: socket.socket, incoming: object) -> None:
        end.setblocking(False)
        self._socket = end
        self._decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(incoming)
        self._received = bytearray()
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._partly_sent = b""
        self.closed = False

    def fileno(self) -> int:
        """For a poller."""
        return self._socket.fileno()

    def close(self) -> None:
        self.closed = True
        self._socket.close()

    def send(self, message: WireMessage) -> None:
        """Send without waiting; what does not fit now goes with the next :meth:`send` or :meth:`flush`."""
        droppable = isinstance(message, Progress | Restoring)
        body = _encoder.encode(message)
        if len(self._waiting) >= MAX_WAITING_FRAMES:
            self._waiting = deque(entry for entry in self._waiting if not entry[1])
        self._waiting.append((_LENGTH.pack(len(body)) + body, droppable))
        self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as the other end reads; whether all of it went."""
        while self._partly_sent or self._waiting:
            frame = self._partly_sent or self._waiting.popleft()[0]
            try:
                sent = self._socket.send(frame, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._partly_sent = frame
                return False
            except OSError:
                self.closed = True
                return False
            self._partly_sent = frame[sent:]
        return True

    def receive(self) -> list[object]:
        """The whole messages that have come. At the other end's death :attr:`closed` is set.

        Raises:
            ProtocolError: a frame is too large or no message; the other end is no training process of ours.
        """
        # So much and no more at once: who says it without end is judged by its first frames.
        while not self.closed and len(self._received) <= MAX_FRAME_BYTES + _READ_BYTES:
            try:
                read = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                read = b""
            if not read:
                self.closed = True
            self._received += read
        messages: list[object] = []
        while len(self._received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received)
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._received) < _LENGTH.size + length:
                break
            body = bytes(self._received[_LENGTH.size:_LENGTH.size + length])
            del self._received[:_LENGTH.size + length]
            try:
                messages.append(self._decoder.decode(body))
            except UNDECODABLE as error:
                raise ProtocolError(f"not a message of the training process: {error}") from error
        return messages
