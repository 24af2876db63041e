"""A real supervisord for tests, with programs of their own, that goes with the block."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

PATIENCE_SECONDS = 60.0
_CONF = """
[unix_http_server]
file=%(here)s/supervisor/supervisor.sock
[supervisord]
nodaemon=true
logfile=%(here)s/log
pidfile=%(here)s/pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""


@contextlib.contextmanager
def supervisord(folder: Path, programs: str) -> Iterator[None]:
    """One in ``folder``, with these sections of its configuration; it may not listen yet."""
    (folder / "supervisor").mkdir()
    (folder / "supervisord.conf").write_text(_CONF + programs)
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(folder / "supervisord.conf")], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(PATIENCE_SECONDS)
        for child in children:
            child.kill()
