"""What the agent knows of the head of the model line, and how it tells the broker of it."""

from __future__ import annotations

import msgspec

from services.trainer import wire
from trainq.errors import BrokerUnavailableError, TrainqError
from trainq.ids import new_request_id
from trainq.messages import Greeted, Hello, Lifecycle
from trainq.service import Peer, Process

AGAIN_SECONDS = 10.0


class Head:
    """The head that the training process has, and whether the broker agrees with it."""

    def __init__(self, process: Process, peer: Peer) -> None:
        self._process = process
        self._peer = peer
        # None while there is no process with a line.
        self.ready: wire.Ready | None = None
        # The newest generation that anybody has told of.
        self.newest = 0
        # The broker will have nothing of this head: no training, but a restore.
        self.is_refused = False
        self._greets = False
        self._greet_at = 0.0

    @property
    def is_to_be_told(self) -> bool:
        """Whether the broker is to be told of it now."""
        return (self.ready is not None and self._greets
                and self._process.clock.monotonic() >= self._greet_at)

    @property
    def device(self) -> str:
        """What the training process computes on; empty while there is none."""
        return self.ready.fingerprint.get("device", "") if self.ready is not None else ""

    def lost(self) -> None:
        """The process ended, or has no line."""
        self.ready, self._greets, self.is_refused = None, False, False

    def published(self, published: wire.Published) -> None:
        """It has moved on."""
        if self.ready is not None:
            self.ready = after(self.ready, published)

    def tell_again(self) -> None:
        """Have the broker be told of it, as soon as that can be."""
        self._greets, self._greet_at = True, 0.0

    def tell(self) -> Greeted | None:
        """Tell the broker; its answer, or None where it did not answer or will have nothing of it."""
        ready = self.ready
        assert ready is not None
        try:
            reply = self._peer.client.call(hello(self._process, ready), Greeted, timeout_seconds=2.0)
        except BrokerUnavailableError:
            return None
        except TrainqError as error:
            self._process.log.error("head_refused", head=ready.head, error=str(error))
            self._process.set_state(Lifecycle.ERROR, str(error))
            self._greet_at, self.is_refused = self._process.clock.monotonic() + AGAIN_SECONDS, True
            return None
        self.is_refused = self._greets = False
        self.newest = max(self.newest, reply.newest)
        return reply


def hello(process: Process, ready: wire.Ready) -> Hello:
    """What the broker is told of the head that the training process has."""
    return Hello(
        request_id=new_request_id(), worker=process.name, session=process.session, generation=ready.generation,
        name=ready.head, step=ready.step, reason=ready.reason, begun=ready.begun, journal_seq=ready.journal_seq,
        job=ready.job, job_step=ready.job_step, steps_planned=ready.steps_planned, done=ready.job_done,
        made_by=ready.made_by, restored_from=ready.restored_from, damaged=tuple(ready.damaged), effects=ready.effects)


def after(head: wire.Ready, published: wire.Published) -> wire.Ready:
    """What the training process would say of itself after this publication."""
    return msgspec.structs.replace(
        head, head=published.name, generation=published.generation, step=published.step, reason=published.reason,
        job=published.job, job_step=published.job_step, job_done=published.done, made_by="", restored_from=0,
        steps_planned=published.job_step if published.done else 0, size_bytes=published.size_bytes,
        marks=published.marks, effects=published.effects)
