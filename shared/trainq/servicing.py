"""The services as supervisord and the picture know them, and orders to them: for the command line and HTTP alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from trainq import files, picture, supervising
from trainq.config import Home
from trainq.errors import BusyError, SupervisorUnavailableError, TrainqError, UsageError
from trainq.liveness import resident_bytes
from trainq.picture import ABSENT, DEAD, ServiceStatus
from trainq.service import ends, standing
from trainq.supervising import ENDED, RUNNING, Program, Supervisor

BROKER, TRAINER = "broker", standing.TRAINER
# They have no work to be kept from, and all the others need them.
WORKLESS = frozenset({BROKER, "status", "web"})
# Over startsecs, on a machine that has other things to do.
_START_SECONDS = 60.0
# So long supervisord may give no answer in the middle of an order.
_PATIENCE_SECONDS, _AGAIN_SECONDS = 60.0, 0.5

Value = TypeVar("Value")
Given = ParamSpec("Given")


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One service: what supervisord says of its program, what it last said of itself, and what it takes.

    What is not known is null. ``exit_code`` is that of its last end; ``note`` is what a person should know.
    """

    name: str
    program: str | None
    state: str | None
    pid: int
    uptime_seconds: float | None
    age_seconds: float | None
    restarts: int | None
    memory_bytes: int | None
    exit_code: int | None
    note: str


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """How a program stands after an order; not ``done``: ``reason`` may say why it is not as it was to be."""

    name: str
    program: str
    pid: int
    done: bool
    reason: str


def views(run: Path, programs: Mapping[str, Program], seen: Iterable[ServiceStatus]) -> list[ServiceRow]:
    """All services, ours first; ``run`` is the folder in which their ends are recorded."""
    heard = {status.name: status for status in seen}
    names = (*picture.SERVICES, *sorted((programs.keys() | heard.keys()) - set(picture.SERVICES)))
    found = [_view(run, name, programs.get(name), heard.get(name)) for name in names]
    memory = resident_bytes(view.pid for view in found if view.pid)
    return [msgspec.structs.replace(view, memory_bytes=memory.get(view.pid)) for view in found]


def _view(run: Path, name: str, program: Program | None, status: ServiceStatus | None) -> ServiceRow:
    return ServiceRow(
        name=name, program=program.state if program else None, state=status.state if status else None,
        pid=program.pid if program else status.pid if status else 0,
        uptime_seconds=status.uptime_seconds if status else None, age_seconds=status.age_seconds if status else None,
        restarts=status.restarts if status else None, memory_bytes=None,
        exit_code=program.exit_code if program and program.stopped_at and not program.pid else None,
        note=_note(run, name, program, status))


def _note(run: Path, name: str, program: Program | None, status: ServiceStatus | None) -> str:
    """What it says of itself, or why it is not there to say something."""
    recorded = ends.read(run, name)
    said = status.detail if status and status.state not in (ABSENT, DEAD) else ""
    spawn = program.spawn_error if program and program.state not in (RUNNING, supervising.STOPPED) else ""
    last = f"its last end: {recorded.reason}" if recorded.reason else ""
    return said or recorded.why_paused(name) or "; ".join(filter(None, (spawn, last)))


def started(run: Path, supervisor: Supervisor, names: Sequence[str]) -> list[Program]:
    """Order all, then wait for each. What lies behind one that had ended counts no more.

    Raises:
        TrainqError: what went wrong first; the others are started all the same.
    """
    failures: list[TrainqError] = []
    ordered = []
    for name in names:
        if _is_done(failures, _start, run, supervisor, name):
            ordered.append(name)
        elif isinstance(failures[-1], SupervisorUnavailableError):
            break  # it has been waited for long enough
    found = [_insist(supervisor.wait_until, name, _is_up, _START_SECONDS) for name in ordered]
    if failures:
        raise failures[0]
    return found


def stopped(supervisor: Supervisor, names: Sequence[str]) -> list[Program]:
    """The other way round: who reports to the broker has done so before that is told to end."""
    found: list[Program] = []
    for some in ([name for name in reversed(names) if name != BROKER], [name for name in names if name == BROKER]):
        for name in some:
            _insist(supervisor.stop, name)
        found += [_insist(supervisor.wait_until, name, has_ended) for name in some]
    return found


def restarted(run: Path, supervisor: Supervisor, names: Sequence[str]) -> list[Program]:
    """Stop, and start again: also where something of it fails, because nobody else would. It must not be interrupted.

    Raises:
        TrainqError: what went wrong first; the others are started all the same.
    """
    failures: list[TrainqError] = []
    _is_done(failures, stopped, supervisor, names)
    found = started(run, supervisor, names)
    if failures:
        raise failures[0]
    return found


def restart_told(run: Path, socket: Path, name: str) -> bytes:
    """Restart one program of the supervisord on ``socket``; what came of it, in JSON.

    For a process of its own, which nothing is to end in the middle: ``{"steered": Steered}``, or what went wrong as
    ``{"error": {"code", "message", "mend"}}``.
    """
    try:
        (program,) = restarted(run, Supervisor(socket), [name])
    except TrainqError as error:
        return msgspec.json.encode({"error": {"code": error.code, "message": error.message, "mend": error.mend}})
    return msgspec.json.encode({"steered": steered(program, is_running)})


def _start(run: Path, supervisor: Supervisor, name: str) -> None:
    program = _insist(supervisor.wait_until, name, lambda program: program.state != supervising.STOPPING)
    if program.state == supervising.STOPPING:
        raise BusyError(f"{name} does not end, and is not started again",
                        mend=f"trainq logs {name} says what it does; trainq services start {name} when it has ended")
    # One that was stopped before it had begun could not take that for what it is: see trainq.service.ends.
    if has_ended(program):
        ends.forget(run, name)
    _insist(supervisor.start, name)


def _is_up(program: Program) -> bool:
    """Or will not be."""
    return program.state in (RUNNING, supervising.FATAL)


def _is_done(failures: list[TrainqError], act: Callable[Given, object], *given: Given.args, **named: Given.kwargs
             ) -> bool:
    try:
        act(*given, **named)
    except TrainqError as error:
        failures.append(error)
        return False
    return True


def _insist(act: Callable[Given, Value], *given: Given.args, **named: Given.kwargs) -> Value:
    """Ask again while supervisord does not answer: it has one thread, and other things to do."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return act(*given, **named)
        except SupervisorUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_SECONDS)


def is_running(program: Program) -> bool:
    return program.state == RUNNING


def has_ended(program: Program) -> bool:
    return program.state in ENDED


def steered(program: Program, is_done: Callable[[Program], bool]) -> Steered:
    """How it stands now, seen against how it was to be."""
    return Steered(name=program.name, program=program.state, pid=program.pid, done=is_done(program),
                   reason=program.spawn_error)


def check_pausable(name: str) -> None:
    """Refuse a pause of what is never paused.

    Raises:
        UsageError: it is one of those.
    """
    if name in WORKLESS:
        raise UsageError(f"{name} is never paused: it takes no work, and the others need it",
                         mend="trainq pause and trainq drain hold the queue")


def pause(home: Home, name: str, reason: str) -> bool:
    """Have a service other than the trainer take no new work; whether that changes something."""
    path = standing.pause_file(home, name)
    changed = not path.exists()
    files.write_file(path, f"{reason}\n".encode())
    return changed


def resume(home: Home, name: str) -> bool:
    """Take back the file that pauses a service; whether there was one. For the trainer there is more to it."""
    path = standing.pause_file(home, name)
    changed = path.exists()
    if changed:
        files.remove_file(path)
    return changed


def why_still_paused(home: Home, name: str) -> str:
    """What no resume helps against; empty if there is nothing."""
    return ends.read(home.run, name).why_paused(name)
