"""``trainq restore``: have the model line go on from an earlier state, and say first what that does to the jobs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import msgspec

from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.tasking import add_wait, ask
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import Store
from trainq.messages import PlanRestore, RestorePlan, RestoreTask

_NAMED = 10


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("name", type=types.generation, metavar="NAME", help="as trainq snapshot list has it")
    parser.add_argument("--from", dest="store", choices=[store.value for store in Store],
                        default=Store.SNAPSHOTS.value, help="where the copy lies (default: snapshots)")
    parser.add_argument("--retrain", action="store_true",
                        help="train the jobs that it does not hold again; without it they are cancelled")
    parser.add_argument("--plan", action="store_true", help="only say what would become of the jobs")
    add_wait(parser)


def _run(arguments: Namespace, context: Context) -> int:
    store = Store(arguments.store)
    with BrokerClient(context.home) as broker:
        plan = broker.call(PlanRestore(request_id=new_request_id(), store=store, name=arguments.name), RestorePlan)
    if arguments.plan:
        return _show(context, plan, retrain=arguments.retrain)
    for line in _words(plan, retrain=arguments.retrain):
        context.console.say(line)
    return ask(context, RestoreTask(store=store, name=arguments.name, retrain=arguments.retrain),
               wait=arguments.wait)


def _show(context: Context, plan: RestorePlan, *, retrain: bool) -> int:
    if context.console.json:
        context.console.emit(msgspec.to_builtins(plan))
        return 0
    for line in _words(plan, retrain=retrain):
        context.console.line(line)
    return 0


def _words(plan: RestorePlan, *, retrain: bool) -> list[str]:
    """The plan, a line for each sort of job."""
    lines = [f"{'trained again' if retrain else 'taken out of the model, and cancelled'}: "
             f"{_named(plan.taken_out, plan.taken_out_count)}"]
    if plan.brought_back_count:
        lines.append(f"counted as trained again: {_named(plan.brought_back, plan.brought_back_count)}")
    if plan.goes_on:
        lines.append(f"goes on in its middle: {plan.goes_on}")
    return lines


def _named(jobs: list[str], count: int) -> str:
    if not jobs:
        return "none"
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return f"{', '.join(jobs[:_NAMED])}{more}"


COMMANDS = {"restore": Command(_configure, _run)}
