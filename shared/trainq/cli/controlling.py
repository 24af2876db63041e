"""The standing orders of the command line: pause, resume, stop and yield; and what is asked of the running job.

``trainq drain`` is in ``draining``.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TypeVar

import msgspec

from trainq import orders
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.steering import MAX_REASON, end_one, is_trainer_gone, said
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError
from trainq.ids import new_request_id
from trainq.liveness import is_alive
from trainq.messages import (
    AnyRequest,
    AskCheckpoint,
    Done,
    Events,
    GetOverview,
    Lifecycle,
    Overview,
    PauseQueue,
    Replay,
    ResumeQueue,
    StopTrainer,
)

POLL_SECONDS = 0.2

Reply = TypeVar("Reply", bound=msgspec.Struct)


def _configure_pause(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", type=types.text, default="paused by a person",
                        help="shown by status and why until resumed")
    _add_wait(parser)


def _pause(arguments: Namespace, context: Context) -> int:
    done = order(context, PauseQueue(request_id=new_request_id(), reason=arguments.reason[:MAX_REASON]), ".pause")
    return _rest(context, done, "paused", wait=arguments.wait)


def _configure_yield(parser: ArgumentParser) -> None:
    parser.add_argument("time", type=types.duration, metavar="TIME", help="how long, like 90s, 30m, 2h or 1d")
    parser.add_argument("--reason", type=types.text, default="yielded by a person", help="shown by status and why")
    _add_wait(parser)


def _yield(arguments: Namespace, context: Context) -> int:
    request = PauseQueue(request_id=new_request_id(), reason=arguments.reason[:MAX_REASON], seconds=arguments.time)
    return _rest(context, order(context, request, ".pause"), "paused", wait=arguments.wait)


def _configure_stop(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", type=types.text, default="stopped by a person", help="shown by status and why")
    _add_wait(parser)


def _stop(arguments: Namespace, context: Context) -> int:
    done = order(context, StopTrainer(request_id=new_request_id(), reason=arguments.reason[:MAX_REASON]), ".stop")
    return _rest(context, done, "stopped", wait=arguments.wait)


def _configure_resume(_parser: ArgumentParser) -> None:
    pass


def _resume(_arguments: Namespace, context: Context) -> int:
    console = context.console
    done = order(context, ResumeQueue(request_id=new_request_id()), "")
    if console.json:
        console.emit({"paused": False, "changed": done.changed})
    else:
        console.line("resumed" if done.changed else "nothing was paused, drained or stopped")
    for name in orders.holding_files(context.home):
        console.say(f"{context.home.control / name} is there: nothing is trained until it is removed")
    return 0


def _configure_checkpoint(parser: ArgumentParser) -> None:
    _add_wait(parser, "until it is published")


def _checkpoint(arguments: Namespace, context: Context) -> int:
    console = context.console
    done = order(context, AskCheckpoint(request_id=new_request_id()), "")
    waits = done.changed and arguments.wait
    name, why = _published_after(context, done.seq) if waits else ("", "")
    if console.json:
        console.emit({"changed": done.changed, "checkpoint": name, "reason": why})
    elif not done.changed:
        console.line("nothing is being trained: all of it is published")
    elif why:
        console.line(f"nothing was published: {printable(why)}")
    else:
        console.line(name or "it is published with the next step")
    return 1 if why else 0


def _published_after(context: Context, seq: int) -> tuple[str, str]:
    """The name of the next generation after that event; or why the job is left, or rests, before there is one."""
    with PatientClient(context.home, context.console) as broker:
        while True:
            found = broker.ask(Replay(request_id=new_request_id(), after_seq=seq), Events)
            for event in found.events:
                seq = event.seq
                if event.type == "CheckpointPublished":
                    return str(event.body["name"]), ""
            overview = broker.ask(GetOverview(request_id=new_request_id()), Overview)
            trainer = overview.trainer
            rests = trainer is not None and trainer.state is Lifecycle.PAUSED and not trainer.gpu
            if (overview.training is None or rests) and not found.events:
                rest = trainer.detail if trainer is not None and rests else ""
                return "", rest or overview.waiting_reason or "the job was left"
            time.sleep(POLL_SECONDS)


def _configure_skip(parser: ArgumentParser) -> None:
    parser.add_argument("job", nargs="?", type=types.job_id, metavar="JOB",
                        help="train-7, or 7 for short; none: the one that runs")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--keep", action="store_true", help="what it has taught stays; the job is done with that")
    how.add_argument("--rollback", action="store_true", help="its steps go out of the weights (default)")
    parser.add_argument("--reason", type=types.text, default="skipped by a person", help="recorded with it")


def _skip(arguments: Namespace, context: Context) -> int:
    with BrokerClient(context.home) as broker:
        job = arguments.job
        if job is None:
            job = orders.running_job(broker)
        outcome = end_one(broker, job, arguments.reason, keep=arguments.keep)
    if context.console.json:
        context.console.emit(outcome)
    else:
        context.console.line(f"{job}  {said(outcome)}")
    return 0


def _add_wait(parser: ArgumentParser, until: str = "until the memory of the model is given back") -> None:
    parser.add_argument("--wait", action="store_true", help=until)


def order(context: Context, request: AnyRequest, file: str) -> Done:
    try:
        with BrokerClient(context.home) as broker:
            return broker.call(request, Done)
    except BrokerUnavailableError:
        if file:
            context.console.say(f"without the broker: touch {context.home.control / file}, and remove it to go on")
        raise


def _rest(context: Context, done: Done, word: str, *, wait: bool) -> int:
    """Say what was ordered, after the trainer has done it if that is waited for."""
    console = context.console
    if wait:
        _wait_for_rest(context)
    if console.json:
        console.emit({word: True, "changed": done.changed})
    else:
        console.line(word if done.changed else f"{word} already")
    console.say("what runs is saved, and goes on with trainq resume")
    return 0


def _wait_for_rest(context: Context) -> None:
    """Until the trainer says that it has given the memory back, or is gone, or is to go on."""
    with PatientClient(context.home, context.console) as broker:
        while True:
            overview = broker.ask(GetOverview(request_id=new_request_id()), Overview)
            trainer = overview.trainer
            if trainer is None:
                if is_trainer_gone(overview):
                    return
            elif trainer.state is Lifecycle.STOPPED or not trainer.gpu or not is_alive(trainer.pid):
                return
            elif not overview.stop and not overview.pause:
                context.console.say("the trainer goes on meanwhile: it was resumed, or started anew")
                return
            time.sleep(POLL_SECONDS)


COMMANDS = {
    "pause": Command(_configure_pause, _pause),
    "yield": Command(_configure_yield, _yield),
    "stop": Command(_configure_stop, _stop),
    "resume": Command(_configure_resume, _resume),
    "checkpoint": Command(_configure_checkpoint, _checkpoint),
    "skip": Command(_configure_skip, _skip),
}
