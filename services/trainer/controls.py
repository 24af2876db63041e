"""The standing orders that the agent is under: the broker's, the files ``control/.pause`` and ``control/.stop``, a GPU
that is too hot.

A file is an order for as long as it is there, and works without the broker; what it holds is the reason. The broker's
orders hold until it says otherwise, also while it is away.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainq.config import Home
from trainq.messages import HeartbeatReply
from trainq.service import standing

PAUSE_FILE, STOP_FILE = standing.TRAINER_PAUSE_FILE, ".stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """Why nothing may be trained, and why nothing more is done in this life; empty for no order.

    ``unheard_of``: the broker knows nothing of it. ``by_file``: until somebody removes it.
    """

    pause: str = ""
    stop: str = ""
    unheard_of: bool = False
    by_file: bool = False


def read(home: Home, told: HeartbeatReply, gpu_pause: str) -> Controls:
    """What holds now; ``told`` is what the broker said last, ``gpu_pause`` why the GPU is left alone."""
    pause, stop = (standing.order_of(home.control / name) for name in (PAUSE_FILE, STOP_FILE))
    by_broker = told.pause or told.stop
    by_file = bool(pause or stop)
    return Controls(pause=pause or told.pause or gpu_pause, stop=stop or told.stop, by_file=by_file,
                    unheard_of=by_file or bool(gpu_pause and not by_broker))
