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
    # It was given back for a reason that the broker did not order: what was lent since, nobody may have told.
    _may_be_lent: bool = False

    def hold(self, wanted: bool, *, rests: bool = False) -> None:
        """Whether the memory is wanted from now on, or had; ``rests``: the broker hears that it may be lent."""
        if not wanted:
            self.number = 0
            self._may_be_lent |= rests
        elif not self.number:
            self._made += 1
            self.number = self._made

    def is_granted(self, told: HeartbeatReply, waited_seconds: float, *, has_job: bool) -> bool:
        """Whether a process may be started by what the broker said last, ``waited_seconds`` after it could have been.

        Without the broker's word it may be after a while, if it has a job to go on with, beside which nothing is lent
        but while that rests; not where it was told to pause, which holds until the broker says otherwise, nor after a
        rest of its own.
        """
        if self.number and told.gpu == self.number:
            self._may_be_lent = False
            return True
        return has_job and waited_seconds >= BROKER_SECONDS and not told.pause and not self._may_be_lent
