"""What the agent and the fork server say to each other: one msgpack datagram each, on a SOCK_SEQPACKET pair.

Kept apart from the fork server, whose imports reach torch, so that the agent's never do.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from trainq.config import LoraSettings


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a training process is started with."""

    home: str
    model: str
    threads: int
    seed: int
    log: str
    # Where all stacks are written when SIGUSR1 comes; empty for nowhere.
    stacks: str = ""
    lora: LoraSettings = LoraSettings()
    on_fingerprint_change: Literal["continue", "hold"] = "continue"
    # Nothing may be computed on the processor.
    gpu_required: bool = False
    # What others may have on the GPU (MiB) that is no reason for a lack of memory; 0 where no limit is set.
    foreign_mib: int = 0


class ForkServerReady(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The imports are done; ``seconds`` is what they took."""

    seconds: float


class Forked(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A training process began."""

    pid: int


class Exited(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A training process ended; ``status`` is its exit code, or minus the signal's number."""

    pid: int
    status: int


class CannotFork(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """No training process could be made, by the machine's fault: no descriptor, no memory, a disk that is not read.

    ``ends``: the fork server ends for it.
    """

    reason: str
    ends: bool = False


Answer = ForkServerReady | Forked | Exited | CannotFork
