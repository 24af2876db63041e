"""``trainq services``: how each service is, and orders to it: start, stop, restart, pause, resume.

Starting and stopping are supervisord's, and need no broker. A pause is a standing order: for the trainer that of
``trainq pause``, for any other service a file in ``control/``.
"""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainq import files, picture, supervising
from trainq.cli import arguments as types
from trainq.cli import picturing
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.controlling import order
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, duration, size, table
from trainq.cli.steering import MAX_REASON
from trainq.config import PROFILES, names_of, project_root
from trainq.errors import BrokerUnavailableError, NotFoundError, SupervisorUnavailableError, TrainqError, UsageError
from trainq.ids import new_request_id
from trainq.liveness import resident_bytes
from trainq.messages import Lifecycle, PauseQueue, ResumeQueue
from trainq.picture import ABSENT, DEAD, SILENT, ServiceStatus
from trainq.service import ends, standing
from trainq.supervising import ENDED, RUNNING, Program, Supervisor

ALL, BROKER, TRAINER = "all", "broker", standing.TRAINER
# Over startsecs, on a machine that has other things to do.
_START_SECONDS = 60.0
# They have no work to be kept from, and all the others need them.
_WORKLESS = frozenset({BROKER, "status", "web"})
_STYLES = {RUNNING: "good", Lifecycle.PAUSED.value: "waiting", Lifecycle.ERROR.value: "bad", DEAD: "bad", SILENT: "bad",
           supervising.FATAL: "bad", supervising.BACKOFF: "bad", ABSENT: "faint", supervising.STOPPED: "faint"}


class Row(NamedTuple):
    """One service: what supervisord says of its program, what it last said of itself, and what it takes."""

    name: str
    program: Program | None
    status: ServiceStatus | None
    memory_bytes: int
    note: str

    def document(self) -> dict[str, Any]:
        """For JSON; what is not known is null."""
        program, status = self.program, self.status
        return {"name": self.name, "program": program.state if program else None,
                "state": status.state if status else None, "pid": self.pid,
                "uptime_seconds": status.uptime_seconds if status else None,
                "age_seconds": status.age_seconds if status else None,
                "restarts": getattr(status, "restarts", None), "memory_bytes": self.memory_bytes or None,
                "exit_code": program.exit_code if program and program.stopped_at and not program.pid else None,
                "note": self.note}

    @property
    def pid(self) -> int:
        return self.program.pid if self.program else self.status.pid if self.status else 0


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, (action, summary) in _ACTIONS.items():
        sub = actions.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.",
                                 allow_abbrev=False)
        sub.add_argument("names", nargs="*", metavar="NAME", help=f"broker, trainer, ...; {ALL} for all of them")
        sub.add_argument("--profile", choices=tuple(PROFILES), help="the services of this profile")
        if name == "pause":
            sub.add_argument("--reason", type=types.text, default="paused by a person",
                             help="shown by status until resumed")
        sub.set_defaults(action=action)
        add_json(sub)


def _run(arguments: Namespace, context: Context) -> int:
    code: int = arguments.action(arguments, context)
    return code


def supervisor_of(context: Context) -> Supervisor:
    """The supervisord of the folder in which the configuration lies, or of the checkout."""
    file = context.configuration.file
    return Supervisor.beside(*([file.absolute().parent] if file else []), project_root())


def _list(arguments: Namespace, context: Context) -> int:
    console, code = context.console, 0
    try:
        programs = {program.name: program for program in supervisor_of(context).programs()}
    except SupervisorUnavailableError as error:
        console.say(str(error))
        programs, code = {}, error.exit_code
    rows = list(_rows(context, programs))
    names = _chosen(arguments, tuple(row.name for row in rows), none_is_all=True)
    rows = [row for row in rows if row.name in names]
    if console.json:
        console.emit({"services": [row.document() for row in rows], "supervisord": not code})
        return code
    for line in _table(rows, console):
        console.line(line)
    return code


def _rows(context: Context, programs: dict[str, Program]) -> Iterable[Row]:
    try:
        seen = picturing.look(context).picture.services
    except BrokerUnavailableError as error:
        context.console.say(str(error))
        seen = ()
    heard = {status.name: status for status in seen}
    names = (*picture.SERVICES, *sorted((programs.keys() | heard.keys()) - set(picture.SERVICES)))
    rows = [Row(name, programs.get(name), heard.get(name), 0, "") for name in names]
    memory = resident_bytes(row.pid for row in rows if row.pid)
    for row in rows:
        yield row._replace(memory_bytes=memory.get(row.pid, 0), note=_note(context.home.run, row))


def _note(run: Path, row: Row) -> str:
    """What a person should know of it: what it says of itself, or why it is not there to say something."""
    recorded = ends.read(run, row.name)
    said = row.status.detail if row.status and row.status.state not in (ABSENT, DEAD) else ""
    spawn = row.program.spawn_error if row.program and row.program.state not in (RUNNING, supervising.STOPPED) else ""
    last = f"its last end: {recorded.reason}" if recorded.reason else ""
    return said or recorded.why_paused(row.name) or "; ".join(filter(None, (spawn, last)))


def _table(rows: Sequence[Row], console: Console) -> list[str]:
    def paint(cell: str) -> str:
        return console.paint(cell, _STYLES.get(cell.strip(), ""))

    columns = [Column("service"), Column("program", paint=paint), Column("state", paint=paint),
               Column("pid", right=True), Column("up", right=True), Column("restarts", right=True),
               Column("memory", right=True), Column("", flexible=True)]
    cells = []
    for row in rows:
        known = row.document()
        up, restarts = known["uptime_seconds"], known["restarts"]
        cells.append([row.name, known["program"] or "", known["state"] or "", str(row.pid or ""),
                      "" if up is None else duration(up), "" if restarts is None else str(restarts),
                      size(row.memory_bytes) if row.memory_bytes else "", row.note])
    return table(columns, cells, console.width)


def _chosen(arguments: Namespace, known: tuple[str, ...], *, none_is_all: bool = False) -> tuple[str, ...]:
    """The services that are meant, in the order of ``known``."""
    unknown = [name for name in arguments.names if name not in (*known, ALL)]
    if unknown:
        raise NotFoundError(f"there is no service {unknown[0]}", mend=f"there are: {', '.join(known)}")
    wanted = {*arguments.names, *(names_of(arguments.profile, known) if arguments.profile else ())}
    if ALL in wanted or (not wanted and none_is_all):
        return known
    if not wanted:
        raise UsageError("no service is named", mend=f"name some, or {ALL}, or --profile P")
    return tuple(name for name in known if name in wanted)


def _programs(arguments: Namespace, context: Context) -> tuple[Supervisor, tuple[str, ...]]:
    """The broker, which the others need, is the first of them."""
    supervisor = supervisor_of(context)
    names = [program.name for program in supervisor.programs()]
    first = [name for name in picture.SERVICES if name in names]
    return supervisor, _chosen(arguments, (*first, *(name for name in names if name not in first)))


def _start(arguments: Namespace, context: Context) -> int:
    supervisor, names = _programs(arguments, context)
    return _report(context, _started(context, supervisor, names), RUNNING, lambda state: state == RUNNING)


def _stop(arguments: Namespace, context: Context) -> int:
    supervisor, names = _programs(arguments, context)
    return _report(context, _stopped(supervisor, names), "stopped", lambda state: state in ENDED)


def _restart(arguments: Namespace, context: Context) -> int:
    supervisor, names = _programs(arguments, context)
    # Whoever leaves in the middle would leave them stopped, and nobody starts them again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: context.console.say("they are started again first"))
    try:
        stopped = _stopped(supervisor, names)
        left = [program for program in stopped if program.state not in ENDED]
        started = _started(context, supervisor,
                           [name for name in names if name not in {program.name for program in left}])
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return _report(context, [*started, *left], RUNNING, lambda state: state == RUNNING)


def _started(context: Context, supervisor: Supervisor, names: Sequence[str]) -> list[Program]:
    """Order all, then wait for each."""
    for name in names:
        # One that was stopped before it had begun could not take the order for what it is: see trainq.service.ends.
        if supervisor.program(name).state in ENDED:
            ends.forget(context.home.run, name)
        supervisor.start(name)
    return [supervisor.wait_until(name, lambda program: program.state in (RUNNING, supervising.FATAL), _START_SECONDS)
            for name in names]


def _stopped(supervisor: Supervisor, names: Sequence[str]) -> list[Program]:
    """The other way round: who reports to the broker has done so before that is told to end."""
    found: list[Program] = []
    for some in ([name for name in reversed(names) if name != BROKER], [name for name in names if name == BROKER]):
        for name in some:
            supervisor.stop(name)
        found += [supervisor.wait_until(name, lambda program: program.state in ENDED) for name in some]
    return found


def _report(context: Context, programs: Sequence[Program], word: str, is_done: Callable[[str], bool]) -> int:
    """Say how each is now; 1 if one is not as it was to be."""
    console = context.console
    failed = [program for program in programs if not is_done(program.state)]
    if console.json:
        console.emit({"services": [{"name": program.name, "program": program.state, "pid": program.pid,
                                    "done": program not in failed, "reason": program.spawn_error}
                                   for program in programs]})
    else:
        for program in programs:
            pid = f"  {program.pid}" if program.pid else ""
            console.line(f"{program.name}  {printable(program.state)}{pid}")
    for program in failed:
        told = f": {program.spawn_error}" if program.spawn_error else ""
        console.say(f"{program.name} is {program.state} and not {word.lower()}{told} "
                    f"(trainq logs {program.name}; supervisor/{program.name}.log)")
    return 1 if failed else 0


def _pause(arguments: Namespace, context: Context) -> int:
    reason = arguments.reason[:MAX_REASON]

    def pause(name: str) -> bool:
        if name == TRAINER:
            return order(context, PauseQueue(request_id=new_request_id(), reason=reason), ".pause").changed
        path = standing.pause_file(context.home, name)
        changed = not path.exists()
        files.write_file(path, f"{reason}\n".encode())
        return changed

    return _steer(arguments, context, pause, "paused", "paused already")


def _resume(arguments: Namespace, context: Context) -> int:
    def resume(name: str) -> bool:
        path = standing.pause_file(context.home, name)
        changed = path.exists()
        if changed:
            files.remove_file(path)
        if name == TRAINER:
            changed = order(context, ResumeQueue(request_id=new_request_id()), "").changed or changed
        if stuck := ends.read(context.home.run, name).why_paused(name):
            context.console.say(f"{name}: {stuck}")
        return changed

    return _steer(arguments, context, resume, "resumed", "was not paused")


def _steer(arguments: Namespace, context: Context, act: Callable[[str], bool], done: str, undone: str) -> int:
    names = _chosen(arguments, picture.SERVICES)
    if named := sorted(_WORKLESS.intersection(arguments.names)):
        raise UsageError(f"{named[0]} is never paused: it takes no work, and the others need it",
                         mend="trainq pause and trainq drain hold the queue")
    console, outcomes, failure = context.console, [], None
    for name in names:
        if name in _WORKLESS:
            continue
        try:
            outcomes.append({"name": name, "changed": act(name)})
        except TrainqError as error:
            failure = error
            console.say(f"{name}: {error}")
    if console.json:
        console.emit({"services": outcomes})
    else:
        for outcome in outcomes:
            console.line(f"{outcome['name']}  {done if outcome['changed'] else undone}")
    return failure.exit_code if failure else 0


_ACTIONS: dict[str, tuple[Callable[[Namespace, Context], int], str]] = {
    "list": (_list, "how each service is"),
    "start": (_start, "start services, and wait until they run"),
    "stop": (_stop, "stop services, and wait until they have ended"),
    "restart": (_restart, "stop services and start them again"),
    "pause": (_pause, "let services take no new work until resumed"),
    "resume": (_resume, "let paused services go on"),
}

COMMANDS = {"services": Command(_configure, _run)}
