"""Standing orders to one service: files in ``control/``, which work without the broker.

A file is an order for as long as it is there; what it holds is the reason.
"""

from __future__ import annotations

import os
from pathlib import Path

from trainq.config import Home

# The trainer has a word of its own, and heeds it at a step: see services/trainer/controls.py.
TRAINER, TRAINER_PAUSE_FILE = "trainer", ".pause"
_MAX_REASON_BYTES = 200


def pause_file(home: Home, service: str) -> Path:
    """The file that pauses the service."""
    return home.control / (TRAINER_PAUSE_FILE if service == TRAINER else f"{TRAINER_PAUSE_FILE}-{service}")


def pause_order(home: Home, service: str) -> str:
    """Why the service is to take no new work; empty if it may."""
    return order_of(pause_file(home, service))


def order_of(path: Path) -> str:
    """The order that the file gives: empty if it is not there. One that cannot be read is there."""
    try:
        # A pipe that somebody has put there must not hold up whoever looks.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = os.read(descriptor, _MAX_REASON_BYTES)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return ""
    except OSError:
        content = b""
    reason = " ".join(content.decode("utf-8", "replace").split())
    return f"control/{path.name} is there{f': {reason}' if reason else ''}"
