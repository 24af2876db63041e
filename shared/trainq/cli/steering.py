"""``trainq cancel`` and ``trainq retry``: what is done to jobs one by one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import msgspec

from trainq import orders
from trainq.cli import arguments as types
from trainq.cli.console import error_document
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, TrainqError
from trainq.jobs import JobState
from trainq.messages import Overview

MAX_REASON = 4096  # as the protocol has it
# Longer than a trainer that lives is silent towards a broker that is there, whatever [broker] heartbeat_seconds says.
UNHEARD_SECONDS = 30.0


def is_trainer_gone(overview: Overview) -> bool:
    """Whether this broker would have heard of a trainer by now, and has not; one that has just come up would not."""
    trainer = overview.trainer
    return (overview.up_seconds if trainer is None else trainer.age_seconds) > UNHEARD_SECONDS


def _configure_cancel(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", type=types.job_id, nargs="+", metavar="JOB", help="train-7, or 7 for short")
    parser.add_argument("--keep", action="store_true", help="what a running one has taught stays; it is done with that")
    parser.add_argument("--reason", type=types.text, default="cancelled by a person", help="recorded with it")


def _cancel(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context,
                 lambda broker, job: end_one(broker, job, arguments.reason, keep=arguments.keep))


def _configure_retry(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", type=types.job_id, nargs="+", metavar="JOB", help="train-7, or 7 for short")


def _retry(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, _retry_one)


def _each(arguments: Namespace, context: Context, act: Callable[[BrokerClient, str], dict[str, Any]]) -> int:
    """Do it to each job; what is wrong with one is no other's fault."""
    console = context.console
    outcomes: list[dict[str, Any]] = []
    code = 0
    with BrokerClient(context.home) as broker:
        for job in dict.fromkeys(arguments.jobs):
            try:
                outcomes.append(act(broker, job))
            except BrokerUnavailableError:
                raise
            except TrainqError as error:
                code = error.exit_code
                outcomes.append({"id": job, "error": error_document(error)})
                console.say(str(error) if job in str(error) else f"{job}: {error}")
                continue
            if not console.json:
                console.line(f"{job}  {said(outcomes[-1])}")
    if console.json:
        console.emit({"jobs": outcomes})
    return code


def end_one(broker: BrokerClient, job: str, reason: str, *, keep: bool) -> dict[str, Any]:
    """Have one job ended, with or without the steps that are done; what became of it."""
    return msgspec.structs.asdict(orders.end_job(broker, job, reason[:MAX_REASON], keep=keep))


def _retry_one(broker: BrokerClient, job: str) -> dict[str, Any]:
    return msgspec.structs.asdict(orders.retry_job(broker, job))


def said(outcome: dict[str, Any]) -> str:
    """What became of one job, for people."""
    if outcome["state"] == JobState.RUNNING.value:
        return "running: it ends at the next step"
    already = "" if outcome["changed"] else " already"
    return f"{outcome['state']}{already}"


COMMANDS = {
    "cancel": Command(_configure_cancel, _cancel),
    "retry": Command(_configure_retry, _retry),
}
