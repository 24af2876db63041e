"""Whether a process lives, and who dies with whom."""

from __future__ import annotations

import ctypes
import os
import signal

# pid_t is a signed 32 bit number on Linux; what does not fit in it is nobody's, and os.kill refuses to take it.
_MAX_PID = 2**31 - 1
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def is_alive(pid: int) -> bool:
    """Whether a process with this pid exists, whoever owns it. A zombie counts as alive; its parent will see to it."""
    if not 0 < pid <= _MAX_PID:
        return False  # 0 would mean this process's own group, less a foreign one
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Be sent ``number`` when the thread that forked this process ends (prctl(2)); end at once if it has already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of whatever descends from this process and loses its own (prctl(2)): so none of it is lost."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)
