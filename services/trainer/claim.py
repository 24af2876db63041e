"""The claim to the GPU's memory: nobody else has it while the training process does. Pure.

The agent says with each heartbeat whether it wants the memory, or has it, and for the how manieth time. Only the reply
to a heartbeat with the claim of now lets it start a process: the broker decides about a loan and about this one after
the other, and a reply to an earlier heartbeat says nothing of what has been lent since.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainq.messages import HeartbeatReply

# How long the broker's word is waited for by who has a job; one that is away must not keep that from going on.
BROKER_SECONDS = 3.0


@dataclass(slots=True)
class Claim:
    """``number`` goes into the heartbeats: 0 while the memory is not wanted."""

    number: int = 0
    _made: int = 0

    def hold(self, wanted: bool) -> None:
        """Whether the memory is wanted from now on, or had."""
        if not wanted:
            self.number = 0
        elif not self.number:
            self._made += 1
            self.number = self._made

    def is_granted(self, told: HeartbeatReply, waited_seconds: float, *, has_job: bool) -> bool:
        """Whether a process may be started by what the broker said last, ``waited_seconds`` after it could have been.

        Without the broker's word it may be after a while, if it has a job to go on with, beside which nothing is lent
        but while that rests; not where it was told to pause: that holds until the broker says otherwise.
        """
        if self.number and told.gpu == self.number:
            return True
        return has_job and waited_seconds >= BROKER_SECONDS and not told.pause
