"""``trainq services``: how each service is, and orders to it: start, stop, restart, pause, resume.

Starting and stopping are supervisord's, and need no broker. A pause is a standing order: for the trainer that of
``trainq pause``, for any other service a file in ``control/``.
"""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

import msgspec

from trainq import picture, servicing, supervising
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
from trainq.messages import Lifecycle, PauseQueue, ResumeQueue
from trainq.picture import ABSENT, DEAD, SILENT
from trainq.servicing import TRAINER, WORKLESS, ServiceRow
from trainq.supervising import RUNNING, Program, Supervisor

ALL = "all"
_STYLES = {RUNNING: "good", Lifecycle.PAUSED.value: "waiting", Lifecycle.ERROR.value: "bad", DEAD: "bad", SILENT: "bad",
           supervising.FATAL: "bad", supervising.BACKOFF: "bad", ABSENT: "faint", supervising.STOPPED: "faint"}


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
    try:
        seen = picturing.look(context).picture.services
    except BrokerUnavailableError as error:
        console.say(str(error))
        seen = ()
    rows = servicing.views(context.home.run, programs, seen)
    names = _chosen(arguments, tuple(row.name for row in rows), none_is_all=True)
    rows = [row for row in rows if row.name in names]
    if console.json:
        console.emit({"services": msgspec.to_builtins(rows), "supervisord": not code})
        return code
    for line in _table(rows, console):
        console.line(line)
    return code


def _table(rows: Sequence[ServiceRow], console: Console) -> list[str]:
    def paint(cell: str) -> str:
        return console.paint(cell, _STYLES.get(cell.strip(), ""))

    columns = [Column("service"), Column("program", paint=paint), Column("state", paint=paint),
               Column("pid", right=True), Column("up", right=True), Column("restarts", right=True),
               Column("memory", right=True), Column("", flexible=True)]
    cells = []
    for row in rows:
        up, restarts = row.uptime_seconds, row.restarts
        cells.append([row.name, row.program or "", row.state or "", str(row.pid or ""),
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
    return _report(context, servicing.started(context.home.run, supervisor, names), RUNNING, servicing.is_running)


def _stop(arguments: Namespace, context: Context) -> int:
    supervisor, names = _programs(arguments, context)
    return _report(context, servicing.stopped(supervisor, names), "stopped", servicing.has_ended)


def _restart(arguments: Namespace, context: Context) -> int:
    supervisor, names = _programs(arguments, context)
    # Whoever leaves in the middle would leave them stopped, and nobody starts them again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = {number: signal.signal(number, lambda *_: context.console.say("they are started again first"))
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        found = servicing.restarted(context.home.run, supervisor, names)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return _report(context, found, RUNNING, servicing.is_running)


def _report(context: Context, programs: Sequence[Program], word: str, is_done: Callable[[Program], bool]) -> int:
    """Say how each is now; 1 if one is not as it was to be."""
    console = context.console
    outcomes = [servicing.steered(program, is_done) for program in programs]
    if console.json:
        console.emit({"services": msgspec.to_builtins(outcomes)})
    else:
        for outcome in outcomes:
            pid = f"  {outcome.pid}" if outcome.pid else ""
            console.line(f"{outcome.name}  {printable(outcome.program)}{pid}")
    failed = [outcome for outcome in outcomes if not outcome.done]
    for outcome in failed:
        told = f": {outcome.reason}" if outcome.reason else ""
        console.say(f"{outcome.name} is {outcome.program} and not {word.lower()}{told} "
                    f"(trainq logs {outcome.name}; supervisor/{outcome.name}.log)")
    return 1 if failed else 0


def _pause(arguments: Namespace, context: Context) -> int:
    reason = arguments.reason[:MAX_REASON]

    def pause(name: str) -> bool:
        if name == TRAINER:
            return order(context, PauseQueue(request_id=new_request_id(), reason=reason), ".pause").changed
        return servicing.pause(context.home, name, reason)

    return _steer(arguments, context, pause, "paused", "paused already")


def _resume(arguments: Namespace, context: Context) -> int:
    def resume(name: str) -> bool:
        changed = servicing.resume(context.home, name)
        if name == TRAINER:
            changed = order(context, ResumeQueue(request_id=new_request_id()), "").changed or changed
        if stuck := servicing.why_still_paused(context.home, name):
            context.console.say(f"{name}: {stuck}")
        return changed

    return _steer(arguments, context, resume, "resumed", "was not paused")


def _steer(arguments: Namespace, context: Context, act: Callable[[str], bool], done: str, undone: str) -> int:
    names = _chosen(arguments, picture.SERVICES)
    for name in sorted(arguments.names):
        servicing.check_pausable(name)
    console, outcomes, failure = context.console, [], None
    for name in names:
        if name in WORKLESS:
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
