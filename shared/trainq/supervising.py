"""supervisord's own API over its unix socket: which programs run, and orders to them. Every wait has a limit.

It asks and orders; it decides nothing. An order is given and not waited for. The API is that of
http://supervisord.org/api.html.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
import xmlrpc.client
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

import msgspec

from trainq.errors import NotFoundError, SupervisorUnavailableError, UsageError

# Where the shipped supervisord.conf puts it, seen from the folder of that file.
SOCKET = Path("supervisor", "supervisor.sock")
# http://supervisord.org/subprocess.html#process-states
RUNNING, STARTING, BACKOFF, STOPPING = "RUNNING", "STARTING", "BACKOFF", "STOPPING"
STOPPED, EXITED, FATAL = "STOPPED", "EXITED", "FATAL"
# In these nothing of the program is left, and nothing is about to be started.
ENDED = frozenset({STOPPED, EXITED, FATAL})

ANSWER_SECONDS = 2.0
# supervisord kills after stopwaitsecs, and notices within its own tick of a second.
_STOP_GRACE_SECONDS = 5.0
_DEFAULT_STOP_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.1
# supervisor.xmlrpc.Faults; importing supervisor would take ten times as long as asking it.
_SHUTTING_DOWN, _BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING = 6, 10, 60, 70

Answer = TypeVar("Answer")


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What supervisord knows of one program.

    ``state`` is its name for it. The times are wall seconds since 1970, 0 if it never was; ``pid`` is 0 if it does not
    run. ``exit_code`` is that of its end, -1 after a signal, 0 while it runs; ``spawn_error`` why it was not started.
    """

    name: str
    state: str
    pid: int
    started_at: float
    stopped_at: float
    exit_code: int
    spawn_error: str


class _UnixConnection(http.client.HTTPConnection):
    """To a unix socket; with a limit on every wait, which supervisor's own transport has not."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        super().__init__("localhost", timeout=wait_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Supervisor:
    """The supervisord that listens on ``socket``. It holds no connection: each question has its own.

    Every method raises :class:`~trainq.errors.SupervisorUnavailableError` if it does not answer within
    ``answer_seconds``, and :class:`~trainq.errors.NotFoundError` for a program that it does not have.
    """

    def __init__(self, socket: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._socket, self._answer_seconds = socket, answer_seconds

    @property
    def socket(self) -> Path:
        return self._socket

    @classmethod
    def of_this_program(cls, environment: Mapping[str, str] = os.environ) -> Supervisor | None:
        """The one that has started this very process; None if none has, or it listens on no unix socket."""
        url = environment.get("SUPERVISOR_SERVER_URL", "")
        return cls(Path(url.removeprefix("unix://"))) if url.startswith("unix://") else None

    @classmethod
    def beside(cls, *folders: Path) -> Supervisor:
        """The one of the first of these folders in which there is a socket: that of ``supervisord.conf``."""
        found = next((folder for folder in folders if (folder / SOCKET).exists()), folders[0])
        return cls(found / SOCKET)

    def programs(self) -> list[Program]:
        """All of its programs, by name."""
        return self._ask(lambda answer: [
            Program(name=_name(said), state=said["statename"], pid=said["pid"], started_at=float(said["start"]),
                    stopped_at=float(said["stop"]), exit_code=said["exitstatus"], spawn_error=said["spawnerr"])
            for said in answer], "getAllProcessInfo")

    def program(self, name: str) -> Program:
        """One of them."""
        return self._find(name, self.programs())

    def start(self, name: str) -> None:
        """Have it started; one that runs is left alone."""
        self._order("startProcess", name, _ALREADY_STARTED)

    def stop(self, name: str) -> None:
        """Have it told to stop, and killed after its ``stopwaitsecs``; one that does not run is left alone."""
        self._order("stopProcess", name, _NOT_RUNNING)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send it a signal; one that does not run is left alone. What this ends, supervisord starts again."""
        self._order("signalProcess", name, _NOT_RUNNING, number.name.removeprefix("SIG"))

    def wait_until(self, name: str, condition: Callable[[Program], bool], seconds: float | None = None) -> Program:
        """Look until ``condition`` holds for it, or the time is over; it, as it is then.

        Args:
            seconds: the limit; None for as long as its stop may take.
        """
        if seconds is None:
            seconds = (self.stop_wait_seconds(name) or _DEFAULT_STOP_WAIT_SECONDS) + _STOP_GRACE_SECONDS
        deadline = time.monotonic() + seconds
        while not condition(program := self.program(name)) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return program

    def stop_wait_seconds(self, name: str) -> float | None:
        """Its ``stopwaitsecs``; None for a program that supervisord does not have."""
        return self._ask(lambda answer: next((float(said["stopwaitsecs"]) for said in answer if _name(said) == name),
                                             None), "getAllConfigInfo")

    def _order(self, method: str, name: str, harmless: int, *words: str) -> None:
        # The last one of a start and of a stop says whether the answer waits for it: it never does.
        arguments = (name, *words) if words else (name, False)
        try:
            self._ask(lambda answer: answer, method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                self._find(name, self.programs())
            if fault.faultCode != harmless:
                raise UsageError(f"supervisord does not do it: {name}: {fault.faultString}",
                                 mend="trainq services list; what it said is in supervisor/supervisord.log") from fault

    @staticmethod
    def _find(name: str, programs: list[Program]) -> Program:
        for program in programs:
            if program.name == name:
                return program
        raise NotFoundError(f"there is no service {name}",
                            mend=f"there are {', '.join(program.name for program in programs) or 'none'}")

    def _ask(self, read: Callable[[Any], Answer], method: str, *arguments: object) -> Answer:
        connection = _UnixConnection(self._socket, self._answer_seconds)
        try:
            call: Any = arguments
            connection.request("POST", "/RPC2", xmlrpc.client.dumps(call, f"supervisor.{method}"),
                               {"Content-Type": "text/xml"})
            return read(xmlrpc.client.loads(connection.getresponse().read())[0][0])
        except xmlrpc.client.Fault as fault:
            # What is wrong with an order; of a question, and of one that ends or begins anew itself, it is no answer.
            if arguments and fault.faultCode != _SHUTTING_DOWN:
                raise
            raise SupervisorUnavailableError(f"supervisord answers on {self._socket}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError, LookupError, TypeError,
                ValueError) as error:
            raise SupervisorUnavailableError(f"supervisord does not answer on {self._socket}: "
                                             f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()


def _name(said: Mapping[str, Any]) -> str:
    """As supervisorctl shows it: a program that is its own group has one name."""
    group, name = str(said["group"]), str(said["name"])
    return name if group == name else f"{group}:{name}"
