"""The fork server: imports torch and transformers once, and forks a training process whenever it is told to.

``python -m services.trainer.forkserver FD`` is started by the agent; FD is one end of a unix socket pair. A command is
one datagram with the arguments (msgpack) and, as a passed file descriptor, the training process's end of its own
channel. Answers are datagrams too: ``ready`` after the imports, ``forked`` with the pid, ``exited`` with the status.

It forks from its main thread only (the death signal follows the thread that forked), runs no tensor operation and
never initialises CUDA (a forked child could not use it any more).
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from typing import NoReturn

import msgspec

from services.trainer.forking import Answer, Arguments, CannotFork, Exited, Forked, ForkServerReady
from trainq.liveness import die_with_parent

# Not imported above: the death signal comes before the seconds that it takes.
_TRAINING_PROCESS = "services.trainer.training_process"
_MAX_COMMAND_BYTES = 1 << 16
_ONE_DESCRIPTOR = socket.CMSG_SPACE(array.array("i").itemsize)


def serve(control: socket.socket) -> None:
    """Fork on command and report ends, until the agent closes its end."""
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(reader, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is reader:
                reader.recv(4096)
                _report_ends(control)
            elif not _obey(control):
                return


def _obey(control: socket.socket) -> bool:
    """Carry out one command; false when the agent has gone."""
    command, ancillary, _, _ = control.recvmsg(_MAX_COMMAND_BYTES, _ONE_DESCRIPTOR)
    if not command:
        return False
    descriptors = array.array("i")
    for _, _, content in ancillary:
        descriptors.frombytes(content[:len(content) - len(content) % descriptors.itemsize])
    if not descriptors:  # the kernel drops what there is no number for (recvmsg(2), MSG_CTRUNC)
        _answer(control, CannotFork(reason="no file descriptor is left for its channel"))
        return True
    arguments = msgspec.msgpack.decode(command, type=Arguments)
    channel = socket.socket(fileno=descriptors[0])
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        channel.close()
        _answer(control, CannotFork(reason=str(error)))
        return True
    if pid == 0:
        _become_training_process(channel, arguments, control, parent)
    channel.close()
    _answer(control, Forked(pid=pid))
    return True


def _become_training_process(channel: socket.socket, arguments: Arguments, control: socket.socket,
                             parent: int) -> NoReturn:
    """What the child does with its life. Never returns into the fork server's loop."""
    status = 1
    try:
        # A group of its own, so that it can be killed whole; and its end is bound to the fork server's, whose end is
        # bound to the agent's.
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(signal.SIGKILL, parent)
        control.close()
        status = importlib.import_module(_TRAINING_PROCESS).main(channel, arguments)
    except BaseException:
        with contextlib.suppress(OSError):  # its log lies on a disk, too
            traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def _report_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _answer(control, Exited(pid=pid, status=os.waitstatus_to_exitcode(status)))


def _answer(control: socket.socket, answer: Answer) -> None:
    control.send(msgspec.msgpack.encode(answer), socket.MSG_NOSIGNAL)


def main() -> None:
    """Entry point of ``python -m services.trainer.forkserver``."""
    die_with_parent(signal.SIGKILL, int(sys.argv[2]))
    # Like the training process: a signal to the whole group is the agent's to act upon.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    started = time.monotonic()
    control = socket.socket(fileno=int(sys.argv[1]))
    # This is the preloading: torch and all that a training process uses come in with it. Nothing of it becomes garbage,
    # and a fifth of its time went to looking for some.
    gc.disable()
    try:
        for module in (_TRAINING_PROCESS, *sys.argv[3:]):
            importlib.import_module(module)
    except (OSError, ImportError) as error:
        # Also a library that the linker cannot open is an ImportError.
        _answer(control, CannotFork(reason=str(error)[:2048], ends=True))
        raise
    # What is here now is left alone by the children's garbage collectors, so that its pages stay shared.
    gc.freeze()
    gc.enable()
    _answer(control, ForkServerReady(seconds=round(time.monotonic() - started, 3)))
    serve(control)


if __name__ == "__main__":
    main()
