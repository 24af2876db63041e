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
from trainq.cli.steering import MAX_REASON, is_trainer_gone
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import Done, DrainQueue, GetOverview, Overview

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
        left, why = _wait(context, once=arguments.no_wait)
    except KeyboardInterrupt:
        console.say("not waiting any longer; no further training begins until trainq resume")
        raise
    console.clear()
    if console.json:
        console.emit({"drained": not left, "changed": done.changed, "running": left or None, "reason": why})
    else:
        how = "goes on to its end" if arguments.no_wait else "is saved, and not at its end"
        console.line(printable(f"{left} {how}: {why}") if left else "drained: nothing trains")
    console.say("trainq resume lets the next one start")
    return 1 if left and not arguments.no_wait else 0


def _wait(context: Context, *, once: bool) -> tuple[str, str]:
    """Until nothing trains, or nothing can: the job that is not at its end then, if any, and how it stands.

    With ``once`` as it is now.
    """
    console, told = context.console, ""
    with PatientClient(context.home, console) as broker:
        while True:
            overview = broker.ask(GetOverview(request_id=new_request_id()), Overview)
            training, rests = overview.training, _why_it_rests(overview)
            # One that was given back in the middle goes on to its end, too, and has not begun again yet.
            left = training.id if training is not None else overview.half_done
            standing = wording.standing(training) if training is not None else overview.waiting_reason
            standing = f"{standing}; {rests}" if training is not None and rests else rests or standing
            if once or rests or not left:
                return left, standing if left else ""
            if console.lively:
                console.show(cut(printable(f"{left}  {standing}"), console.talk_width))
            elif told != left:
                console.say(f"{left} goes on to its end: {standing}")
                told = left
            time.sleep(POLL_SECONDS)


def _why_it_rests(overview: Overview) -> str:
    """Why what is left goes on with an order of somebody's alone, and is not waited for; empty if it does by itself."""
    if is_trainer_gone(overview):
        return "the trainer is not there: supervisorctl start trainer"
    trainer = overview.trainer
    # One that is just being saved is not at rest yet.
    if trainer is None or trainer.gpu:
        return ""
    return overview.stop or overview.pause or (trainer.detail if trainer.until_told else "")


COMMANDS = {"drain": Command(_configure, _run)}
