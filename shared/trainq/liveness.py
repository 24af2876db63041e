"""Whether a process lives."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """Whether a process with this pid exists, whoever owns it. A zombie counts as alive; its parent will see to it."""
    if pid <= 0:
        return False  # 0 would mean this process's own group
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
