"""Whether a process lives, who descends from it, and who dies with whom."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

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


def family(pid: int) -> set[int]:
    """The process, and all that descend from it."""
    return families((pid,))[pid]


def families(pids: Iterable[int]) -> dict[int, set[int]]:
    """:func:`family` of each, with one look at all processes."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                # proc(5): the name, in parentheses, may hold anything; the parent is the second field behind it.
                parent = int(Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has just ended
            children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, set[int]] = {}
    for pid in pids:
        found[pid], waiting = {pid}, [pid]
        while waiting:
            new = [child for child in children.get(waiting.pop(), []) if child not in found[pid]]
            found[pid].update(new)
            waiting += new
    return found


def resident_bytes(pids: Iterable[int]) -> dict[int, int]:
    """Resident memory of each process with all that descend from it (proc(5), statm), without those that are gone.

    What several share counts for each.
    """
    found: dict[int, int] = {}
    for pid, members in families(pids).items():
        pages = [size for each in members if (size := _resident_pages(each)) is not None]
        if pages:
            found[pid] = sum(pages) * os.sysconf("SC_PAGE_SIZE")
    return found


def _resident_pages(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return None  # it has just ended


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Be sent ``number`` when the thread that forked this process ends (prctl(2)); end at once if it has already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of whatever descends from this process and loses its own (prctl(2)): so none of it is lost."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)
