"""The agent's side of the fork server and the training process: start, talk, watch, kill. No torch, no threads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import msgspec

from services.trainer import wire
from services.trainer.forking import Answer, Arguments, CannotFork, Forked, ForkServerReady
from trainq.errors import ProtocolError
from trainq.transport import Poller

_MAX_ANSWER_BYTES = 4096
_ENVIRONMENT = {
    # NVML answers "is there a GPU" without initialising CUDA, which must not happen before the fork.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # No library's threads before a fork, and none that has used torch after it (trainq.ml.determinism).
    "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1", "HF_DEACTIVATE_ASYNC_LOAD": "1",
    # OpenMP's default is to spin for milliseconds at each barrier: with as many threads as processors, one other busy
    # process then makes training 15 times slower (measured; with this, 2 times), for a few per cent when alone.
    "GOMP_SPINCOUNT": "3000",
    # CUDA's own order is the fastest first; the agent asks the driver by its order, which is that of nvidia-smi.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # Repeatable cuBLAS; read when the first handle is made.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Nothing is fetched, and no pickle is read, whatever a library would like to.
    "HF_HUB_OFFLINE": "1", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}


# A process cannot send these to itself by mistake, and supervisord, people and the kernel's out-of-memory killer do.
_SIGNALS_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
_STACKS_SECONDS = 2.0
_MAX_STACKS_BYTES = 64 * 1024


class ChildExited(msgspec.Struct, frozen=True, kw_only=True):
    """The training process has ended; ``how`` says it for people (``signal 9``, ``exit 1``).

    ``own``: by its own doing, and not by a signal from outside. ``machine``: the fault of the machine for which there
    never was one.
    """

    pid: int
    status: int
    how: str
    machine: str = ""

    @property
    def own(self) -> bool:
        return -self.status not in _SIGNALS_FROM_OUTSIDE


class TrainingChild:
    """One fork server, and at most one training process under it. Owned by the agent's main thread."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self._decoder = msgspec.msgpack.Decoder(Answer)
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._channel: wire.Channel | None = None
        self.pid = 0
        self.preload_seconds: float | None = None
        self._watched: list[int] = []
        # Why the fork server ends, as it said itself.
        self._server_trouble = ""

    def descriptors(self) -> list[int]:
        """What a poller should watch now; changes with every start and end."""
        ends = [self._control, self._channel]
        return [end.fileno() for end in ends if end is not None]

    def watch(self, poller: Poller) -> None:
        """Have the poller wake for the processes of now."""
        now = self.descriptors()
        for descriptor in set(self._watched) - set(now):
            poller.forget_descriptor(descriptor)
        for descriptor in set(now) - set(self._watched):
            poller.watch_descriptor(descriptor)
        self._watched = now

    def start(self) -> None:
        """Fork a training process; the fork server is started first if it is not there."""
        if self._server is None or self._server.poll() is not None:
            self._start_server()
        ours, theirs = socket.socketpair()
        self._channel = wire.Channel(ours, wire.FromTraining)
        self.pid = 0
        assert self._control is not None
        with contextlib.suppress(OSError):  # a server that has died is seen in receive()
            socket.send_fds(self._control, [msgspec.msgpack.encode(self.arguments)], [theirs.fileno()])
        theirs.close()

    def send(self, message: wire.ToTraining) -> None:
        """Tell the training process something; if it has died, its end is what will be heard."""
        if self._channel is not None:
            self._channel.send(message)

    def receive(self) -> list[wire.FromTraining | ChildExited]:
        """Everything that has been said since, and the end of the process if it has ended."""
        heard: list[wire.FromTraining | ChildExited] = []
        ended = self._take_answers()
        if self._channel is not None:
            self._channel.flush()
            try:
                heard += cast("list[wire.FromTraining | ChildExited]", self._channel.receive())
            except ProtocolError as error:
                self.kill()
                ended = ended or ChildExited(pid=self.pid, status=1, how=str(error))
        if ended is not None:
            self._drop_channel()
            if ended.machine:
                heard.append(wire.Failed(job="", system=True, code="cannot_start", reason=ended.machine))
            heard.append(ended)
        return heard

    def kill(self) -> None:
        """End the training process and whatever it has started, at once; the fork server, if it never forked one."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        elif self._channel is not None and self._server is not None:
            self._server.kill()

    def dump_stacks(self) -> str:
        """What every thread of the training process is doing, as it says itself; waits for that, but not for long.

        It is woken first if it was stopped. Empty if it does not answer at all (the kernel holds it).
        """
        path = Path(self.arguments.stacks)
        if not (self.pid and self.arguments.stacks and path.exists()):
            return ""
        before = path.stat().st_size
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGUSR1)
        deadline, size = time.monotonic() + _STACKS_SECONDS, before
        while time.monotonic() < deadline:
            grown = path.stat().st_size
            if grown > before and grown == size:
                break
            size = grown
            time.sleep(0.05)
        return path.read_bytes()[before:][-_MAX_STACKS_BYTES:].decode(errors="backslashreplace")

    def close(self) -> None:
        """End everything; the fork server goes when its socket closes."""
        self.kill()
        self._drop_channel()
        self._stop_server()

    def _start_server(self) -> None:
        self._stop_server()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "services.trainer.forkserver", str(theirs.fileno()), str(os.getpid()),
                   *(["peft"] if self.arguments.lora.rank else [])]
        environment = {**os.environ, **_ENVIRONMENT}
        self._server = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment,
                                        stdin=subprocess.DEVNULL)
        theirs.close()
        ours.setblocking(False)
        self._control = ours
        self.preload_seconds = None
        self._server_trouble = ""

    def _stop_server(self) -> int:
        status = 0
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            try:
                status = self._server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._server.kill()
                status = self._server.wait()
            self._server = None
        return status

    def _take_answers(self) -> ChildExited | None:
        ended: ChildExited | None = None
        while self._control is not None:
            try:
                answer = self._control.recv(_MAX_ANSWER_BYTES)
            except BlockingIOError:
                break
            except OSError:
                answer = b""
            if not answer:  # the fork server has died, and its children with it (their death signal)
                status = self._stop_server()
                return ended or ChildExited(pid=self.pid, status=status, machine=self._server_trouble,
                                            how=f"the fork server ended: {_how(status)}")
            ended = self._taken(self._decoder.decode(answer)) or ended
        return ended

    def _taken(self, answer: Answer) -> ChildExited | None:
        if isinstance(answer, ForkServerReady):
            self.preload_seconds = answer.seconds
        elif isinstance(answer, Forked):
            self.pid = answer.pid
        elif isinstance(answer, CannotFork):
            if not answer.ends:
                return ChildExited(pid=0, status=1, how="it could not be forked", machine=answer.reason)
            self._server_trouble = answer.reason
        elif answer.pid == self.pid:
            return ChildExited(pid=answer.pid, status=answer.status, how=_how(answer.status))
        return None

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.pid = 0


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit {status}"
