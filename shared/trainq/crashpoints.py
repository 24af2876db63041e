"""Named points at which a test may kill this process; a no-op unless armed.

``TRAINQ_CRASH_AT=name:n`` in the environment kills the process with SIGKILL when ``name`` is reached for the n-th
time (n counts from 1). The environment is read by :func:`arm_from_environment`, which service start-up calls;
importing this module reads nothing.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT_KEY = "TRAINQ_CRASH_AT"

# Every point there is, and what has happened when it is reached.
POINTS: Mapping[str, str] = {
    "files.fsync": "a file is written, and not yet durable",
    "files.fsync_directory": "names in a folder have changed, and are not yet durable",
    "files.rename": "something whole is about to get its name",
    "files.renamed": "it has its name, which is not yet durable",
    "files.remove": "something is about to be removed",
    "journal.commit": "events are appended, and not yet committed",
    "journal.committed": "events are on disk, and nobody has heard of them",
    "training.stepped": "an optimizer step is done, and in memory only",
    "checkpoint.published": "a generation is on disk, and nobody has heard of it",
}

PLANS_KEY = "TRAINQ_CRASH_PLANS"

_countdown: dict[str, int] = {}
# A checkpoint is written beside the training loop; ``threading`` would cost each command its import.
_lock = _thread.allocate_lock()
_plans = ""
# The plan that was seen last at each point, and how often that point was reached since.
_seen: dict[str, tuple[bytes, int]] = {}


def arm(name: str, hits: int) -> None:
    """Kill this process when ``name`` is reached for the ``hits``-th time from now."""
    if hits < 1:
        raise ValueError(f"hits counts from 1, not {hits}")
    _countdown[name] = hits


def disarm() -> None:
    """Forget every armed point."""
    _countdown.clear()


def arm_from_environment(environment: Mapping[str, str], process_name: str = "") -> None:
    """Arm the points listed in ``TRAINQ_CRASH_AT`` (``name:n``, several with commas).

    ``TRAINQ_CRASH_PLANS`` names a folder instead: a file ``<process_name>.<point>`` in it is one kill, used up by the
    first process of that name that has been there as often as :func:`plan` has written into it.
    """
    global _plans
    folder = environment.get(PLANS_KEY, "")
    _plans = f"{folder}/{process_name}." if folder else ""
    for entry in filter(None, environment.get(ENVIRONMENT_KEY, "").split(",")):
        name, _, hits = entry.partition(":")
        arm(name, int(hits or "1"))


def plan(number: int, hits: int) -> bytes:
    """The content of a plan: the kill comes at the ``hits``-th time; ``number`` tells it from every other plan."""
    return b"%d %d" % (number, hits)


def _planned(name: str) -> None:
    path = Path(_plans + name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    known, reached = _seen.get(name, (b"", 0))
    reached = reached + 1 if content == known else 1
    _seen[name] = content, reached
    if reached < int(content.split()[1]):
        return
    try:
        path.unlink()  # whoever removes it has claimed it
    except FileNotFoundError:
        return
    _die()


def reach(name: str) -> None:
    """Say that execution is at ``name``. Returns unless that point is armed and its count is used up."""
    if _plans:
        _planned(name)
    if name not in _countdown:
        return
    with _lock:
        _countdown[name] -= 1
        due = _countdown[name] == 0
    if due:
        _die()


def _die() -> None:
    import signal  # its enumerations take a millisecond, which a command line that never dies here need not wait

    os.kill(os.getpid(), signal.SIGKILL)
