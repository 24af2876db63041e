"""``trainq drain``: let the running training end, let no other begin; what one wants before switching off."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

from trainq.cli import arguments as types
from trainq.cli import wording
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.rendering import cut
from trainq.cli.steering import MAX_REASON
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import Done, DrainQueue, GetOverview, JobView, Overview

POLL_SECONDS = 0.3


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", type=types.text, default="drained by a person",
                        help="shown by status and why until resumed")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the end of what trains now")


def _run(arguments: Namespace, context: Context) -> int:
    console = context.console
    with BrokerClient(context.home) as broker:
        done = broker.call(DrainQueue(request_id=new_request_id(), reason=arguments.reason[:MAX_REASON]), Done)
    try:
        last = _wait(context, once=arguments.no_wait)
    except KeyboardInterrupt:
        console.say("not waiting any longer; no further training begins until trainq resume")
        raise
    console.clear()
    if console.json:
        console.emit({"drained": last is None, "changed": done.changed, "running": last.id if last else None})
    elif last is not None:
        console.line(f"{last.id} goes on to its end: {printable(wording.standing(last))}")
    else:
        console.line("drained: nothing trains")
    console.say("trainq resume lets the next one start")
    return 0


def _wait(context: Context, *, once: bool) -> JobView | None:
    """Until nothing trains; with ``once``, what still does."""
    console = context.console
    told = once or console.lively
    with PatientClient(context.home, console) as broker:
        while True:
            overview = broker.ask(GetOverview(request_id=new_request_id()), Overview)
            training = overview.training
            # One that was given back in the middle goes on to its end, too, and has not begun again yet.
            if once or (training is None and not overview.half_done):
                return training
            if console.lively and training is not None:
                console.show(cut(printable(f"{training.id}  {wording.standing(training)}"), console.talk_width))
            elif not told and training is not None:
                console.say(f"{training.id} goes on to its end: {wording.standing(training)}")
                told = True
            time.sleep(POLL_SECONDS)


COMMANDS = {"drain": Command(_configure, _run)}
