"""Whether a process lives."""

from __future__ import annotations

import os

# pid_t is a signed 32 bit number on Linux; what does not fit in it is nobody's, and os.kill refuses to take it.
_MAX_PID = 2**31 - 1


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
