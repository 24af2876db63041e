"""What a check finds, what it is given, and how all of them are run: one that raises or hangs hinders no other."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from trainq.client import BrokerClient
from trainq.config import Home, Settings
from trainq.errors import BrokerUnavailableError, ConfigurationProblem, SupervisorUnavailableError, TrainqError
from trainq.ids import new_request_id
from trainq.messages import GetOverview, Overview
from trainq.supervising import SOCKET, Program, Supervisor

ANSWER_SECONDS = 3.0
# Of one check. A driver or a mount that hangs is a finding, too.
CHECK_SECONDS = 15.0
_CONNECT_SECONDS = 1.0

Known = TypeVar("Known")


class Verdict(StrEnum):
    """How bad it is. ``fail``: something does not work, or will not; ``warn``: it should be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result. ``mend`` says what to do about it; empty where there is nothing to be done."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Finding:
    return Finding(name=name, verdict=Verdict.OK, found=found)


def warn(name: str, found: str, mend: str = "") -> Finding:
    return Finding(name=name, verdict=Verdict.WARN, found=found, mend=mend)


def fail(name: str, found: str, mend: str) -> Finding:
    return Finding(name=name, verdict=Verdict.FAIL, found=found, mend=mend)


class Subject:
    """What is looked at: a checkout (``root``), a home, and the settings that apply, or the defaults if none can.

    Who runs is asked once; whoever asks later gets the same answer, or the same error.
    """

    def __init__(self, environment: Mapping[str, str], root: Path, home: Home, settings: Settings, *,
                 file: Path | None = None, problems: Sequence[ConfigurationProblem] = ()) -> None:
        self.environment = environment
        self.root = root
        self.home = home
        self.settings = settings
        self.file = file
        self.problems = tuple(problems)

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisord listens: beside ``trainq.toml``, if one does there, else beside the code."""
        beside = [self.file.absolute().parent] if self.file is not None else []
        return next((folder / SOCKET for folder in beside if (folder / SOCKET).exists()), self.root / SOCKET)

    @property
    def programs(self) -> list[Program]:
        """What supervisord runs.

        Raises:
            SupervisorUnavailableError: it does not answer.
        """
        return _given(self._programs)

    @property
    def overview(self) -> Overview:
        """The broker's part of the picture.

        Raises:
            TrainqError: it does not answer, or with something else.
        """
        return _given(self._overview)

    @functools.cached_property
    def _programs(self) -> list[Program] | TrainqError:
        try:
            return Supervisor(self.supervisor_socket).programs()
        except SupervisorUnavailableError as error:
            return error

    @functools.cached_property
    def _overview(self) -> Overview | TrainqError:
        if problem := no_listener(self.home.request_socket):
            return BrokerUnavailableError(f"nobody listens on {self.home.request_socket}: {problem}")
        try:
            with BrokerClient(self.home) as broker:
                return broker.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=ANSWER_SECONDS)
        except TrainqError as error:
            return error


def no_listener(path: Path) -> str:
    """Why nobody takes a connection on that socket; empty if somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_SECONDS)
        try:
            connection.connect(str(path))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _given(found: Known | TrainqError) -> Known:
    if isinstance(found, TrainqError):
        raise found
    return found


class Check(NamedTuple):
    """A check by name: it looks at a subject, changes nothing of it, and says what it found."""

    name: str
    look: Callable[[Subject], Iterable[Finding]]


def examine(subject: Subject, checks: Iterable[Check], *, limit_seconds: float = CHECK_SECONDS) -> list[Finding]:
    """What all checks find, in their order."""
    return [finding for check in checks for finding in _within(subject, check, limit_seconds)]


def _within(subject: Subject, check: Check, limit_seconds: float) -> list[Finding]:
    """A check's findings; of one that raises or takes longer than the limit, that."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.extend(check.look(subject))
        except Exception as error:
            found.append(warn(check.name, f"it could not be looked at: {type(error).__name__}: {error}",
                              "if what it names is as it should be, please report this"))

    # A thread that hangs in the kernel or a driver cannot be ended: it is left, and goes with the process.
    thread = threading.Thread(target=look, name=f"doctor {check.name}", daemon=True)
    thread.start()
    thread.join(limit_seconds)
    if thread.is_alive():
        return [*found, fail(check.name, f"it did not answer within {limit_seconds:g} s", "a disk that is mounted over "
                             "a network, or the GPU's driver, may hang: dmesg says more")]
    return found
