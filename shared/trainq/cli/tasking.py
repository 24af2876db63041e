"""Asking for maintenance, and pinning: what the commands of the copies of the model have in common."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.waiting import wait_for
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import Store
from trainq.messages import Accepted, Done, Pin, SubmitTask, Task, Unpin


def add_wait(*parsers: ArgumentParser) -> None:
    """Declare ``--wait`` for the commands that ask for a task."""
    for parser in parsers:
        parser.add_argument("--wait", action="store_true", help="until it is done; 1 if it failed")


def add_pins(commands: Any, summary: str) -> None:
    """Declare ``pin`` and ``unpin`` among ``commands`` (what ``add_subparsers`` gave)."""
    pin = commands.add_parser("pin", help=summary)
    pin.add_argument("name", type=types.generation, metavar="NAME")
    pin.add_argument("--reason", type=types.text, default="pinned by a person", help="for people, later")
    unpin = commands.add_parser("unpin", help="let the rules decide over it again")
    unpin.add_argument("name", type=types.generation, metavar="NAME")


def ask(context: Context, task: Task, *, wait: bool, cause: str = "asked for by a person") -> int:
    """Ask for a task; its id, or with ``wait`` how it ended. Gives the exit code."""
    console = context.console
    with BrokerClient(context.home) as broker:
        accepted = broker.call(SubmitTask(request_id=new_request_id(), task=task, cause=cause), Accepted)
    if not wait:
        if console.json:
            console.emit({"job": accepted.job, "state": accepted.state})
        else:
            console.line(accepted.job)
            console.say(f"wait for it: trainq wait {accepted.job}")
        return 0
    ended, code = wait_for([accepted.job], context)
    if console.json:
        console.emit({"jobs": ended})
    return code


def change_pin(context: Context, store: Store, name: str, reason: str | None) -> int:
    """Pin a copy for this reason, or let go of it without one. Gives the exit code."""
    request = (Unpin(request_id=new_request_id(), store=store, name=name) if reason is None
               else Pin(request_id=new_request_id(), store=store, name=name, reason=reason))
    with BrokerClient(context.home) as broker:
        changed = broker.call(request, Done).changed
    if context.console.json:
        context.console.emit({"store": store.value, "name": name, "pinned": reason is not None, "changed": changed})
    elif not changed:
        context.console.say("it was so already")
    return 0
