"""The keeper of a program: runs it, hands on how it ended, and ends with nothing left of what it has started.

``python -m trainq.keeper FD PARENT WORD ...`` is a process of its own, the subreaper (prctl(2)) of the program alone:
whoever descends from the keeper was started by the program, also where its own parent has ended. What else the caller
has for children, a shell's ``> >(tee log)`` say, is no business of it.

SIGTERM asks all of them to end, SIGUSR1 (or 10 seconds after the first) kills. The end of the caller, whatever ends it,
counts as SIGTERM; as SIGUSR1 where the caller is who reads the program's output, which then is nobody's. The terminal's
signals are the program's. How it ended is written to ``FD``: its exit code (a signal's number below 0, as
:mod:`subprocess` has it), or ``errno`` and a number if it cannot be run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trainq.liveness import adopt_orphans, die_with_parent, family

# How long they may take to end after they were asked to; and to be gone after they were killed.
END_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_HEARD = {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD}
_TERMINAL = {signal.SIGINT, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_OWN = {*_HEARD, *_TERMINAL}


def start(words: Sequence[str], environment: dict[str, str],
          output: int | None = None, *, reads: int | None = None, errors: int | None = None,
          folder: Path | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """Start a keeper of this program, and the descriptor to read its end from: see :func:`ending`.

    Args:
        words: the program and its arguments.
        environment: the program's.
        output: a descriptor for what it says. It has nothing to read then, and a process group of its own: whoever
            kills the caller's group lets the keeper end the program, at once: what is asked again must not run twice.
        reads: a descriptor for what it has to read all the same.
        errors: one for its standard error; else that is the caller's.
        folder: where it runs; else where the caller does.

    Raises:
        OSError: there can be no more processes.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody ever hears of how a child ended
    reader, writer = os.pipe()
    parent = os.getpid()

    def in_keeper() -> None:
        # Nothing that comes before the keeper looks is lost, and nothing ends it but what it has looked at.
        signal.pthread_sigmask(signal.SIG_BLOCK, _OWN)
        die_with_parent(signal.SIGTERM if output is None else signal.SIGUSR1, parent)

    try:
        # -P: no module of the folder of now comes before those of Python.
        kept = subprocess.Popen([sys.executable, "-P", "-m", __name__, str(writer), str(parent), *words],
                                stdin=subprocess.DEVNULL if reads is None and output is not None else reads,
                                stdout=output, stderr=errors, cwd=folder,
                                process_group=None if output is None else 0,
                                env=environment, pass_fds=(writer,), preexec_fn=in_keeper)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return kept, reader


def ending(reader: int) -> int | OSError | None:
    """How the program ended, once its keeper has; why it could not be run; None if it has not, or nobody knows."""
    with os.fdopen(reader, "rb") as stream:
        words = stream.read().split()
    match words:
        case [b"errno", number]:
            return OSError(int(number), os.strerror(int(number)))
        case [code]:
            return int(code)
        case _:
            return None


def keep(words: Sequence[str], writer: int) -> None:
    """Run the program to its end, and end what it leaves behind."""
    adopt_orphans()
    own = os.getpid()

    def in_program() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OWN)
        die_with_parent(signal.SIGTERM, own)

    try:
        program = subprocess.Popen(words, preexec_fn=in_program)
    except OSError as error:
        _say(writer, f"errno {error.errno}")
        return
    kill_at, told = None, set[int]()
    while program.poll() is None or _left():
        now = time.monotonic()
        if program.returncode is not None and kill_at is None:
            kill_at = now + END_SECONDS
        if kill_at is not None:
            if now >= kill_at + END_SECONDS:
                break  # what SIGKILL does not end waits for a disk or a driver
            left = _left()
            _send(left if now >= kill_at else left - told, signal.SIGKILL if now >= kill_at else signal.SIGTERM)
            told |= left
        heard = signal.sigtimedwait(_HEARD, 60.0 if kill_at is None else _LOOK_SECONDS)
        if heard is not None and heard.si_signo == signal.SIGTERM:
            kill_at = kill_at or time.monotonic() + END_SECONDS
        elif heard is not None and heard.si_signo == signal.SIGUSR1:
            kill_at = time.monotonic()
        reap(program)
    if program.returncode is not None:
        _say(writer, f"{program.returncode}")


def reap(program: subprocess.Popen[bytes]) -> None:
    """Forget the children that have ended, adopted ones too: of the program itself its exit code is kept."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == program.pid:
                program.poll()
            else:
                os.waitpid(ended.si_pid, 0)


def _say(writer: int, how: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # who has asked for it has gone meanwhile
        os.write(writer, f"{how}\n".encode())


def _left() -> set[int]:
    return family(os.getpid()) - {os.getpid()}


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            if number is signal.SIGTERM:
                os.kill(pid, signal.SIGCONT)  # one that is stopped hears nothing


def kill_left(kept: subprocess.Popen[bytes], mark: str) -> bool:
    """Kill what a keeper that has ended has left to this process, the subreaper above it; whether all of it is gone.

    What else has come to this process is none of it: only who has ``mark`` (``NAME=VALUE``) in the environment that it
    was started with is killed, with all below it.
    """
    until = time.monotonic() + END_SECONDS
    doomed = set[int]()
    while True:
        below = _left()
        # Whoever was killed has no environment any more, and is gone only once it has let go of its files.
        doomed = (doomed & below).union(*(family(pid) for pid in below if _has(pid, mark)))
        if not doomed or time.monotonic() >= until:
            return not doomed
        _send(doomed, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
        reap(kept)


def _has(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has just ended, or is somebody else's


if __name__ == "__main__":
    if os.getppid() == int(sys.argv[2]):  # else who has asked for it has gone meanwhile
        keep(sys.argv[3:], int(sys.argv[1]))
