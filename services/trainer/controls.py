"""The standing orders that the agent is under: the broker's, the files ``control/.pause`` and ``control/.stop``, a GPU
that is too hot.

A file is an order for as long as it is there, and works without the broker; what it holds is the reason. The broker's
orders hold until it says otherwise, also while it is away.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainq.config import Home
from trainq.gpu import Verdict
from trainq.messages import HeartbeatReply, PauseCause
from trainq.service import standing

PAUSE_FILE, STOP_FILE = standing.TRAINER_PAUSE_FILE, ".stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """Why nothing may be trained, and why nothing more is done in this life; empty for no order.

    ``unheard_of``: the broker knows nothing of it. ``by_file``: until somebody removes it. ``cause`` is that of the
    order, ``gpu_cause`` that of the GPU's being left alone.
    """

    pause: str = ""
    stop: str = ""
    unheard_of: bool = False
    by_file: bool = False
    cause: PauseCause = PauseCause.ORDERED
    gpu_cause: PauseCause = PauseCause.WAITING


def read(home: Home, told: HeartbeatReply, seen: Verdict) -> Controls:
    """What holds now; ``told`` is what the broker said last, ``seen`` whether the GPU is to be left alone."""
    pause, stop = (standing.order_of(home.control / name) for name in (PAUSE_FILE, STOP_FILE))
    by_broker = told.pause or told.stop
    by_file = bool(pause or stop)
    gpu_cause = PauseCause.HINDERED if seen.trouble else PauseCause.WAITING
    cause = gpu_cause
    if by_file or by_broker:
        is_lent = told.lent and not by_file and not told.stop
        cause = PauseCause.LENT if is_lent else PauseCause.ORDERED
    return Controls(pause=pause or told.pause or seen.pause, stop=stop or told.stop, by_file=by_file,
                    unheard_of=by_file or bool(seen.pause and not by_broker), cause=cause, gpu_cause=gpu_cause)
