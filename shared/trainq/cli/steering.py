"""``trainq cancel``, ``release`` and ``retry``: what is done to jobs one by one, to those named or all that are found.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from trainq import choosing, orders
from trainq.cli import arguments as types
from trainq.cli.choosing import NobodyToAskError, add_choice, chosen
from trainq.cli.console import Console, error_document
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError
from trainq.jobs import JobState
from trainq.messages import Overview
from trainq.orders import Outcome

MAX_REASON = 4096  # as the protocol has it
# Longer than a trainer that lives is silent towards a broker that is there, whatever [broker] heartbeat_seconds says.
UNHEARD_SECONDS = 30.0


def is_trainer_gone(overview: Overview) -> bool:
    """Whether this broker would have heard of a trainer by now, and has not; one that has just come up would not."""
    trainer = overview.trainer
    return (overview.up_seconds if trainer is None else trainer.age_seconds) > UNHEARD_SECONDS


def _configure_cancel(parser: ArgumentParser) -> None:
    add_choice(parser, choosing.CANCEL_STATES, choosing.CANCEL_KINDS)
    parser.add_argument("--keep", action="store_true", help="what a running one has taught stays; it is done with that")
    parser.add_argument("--reason", type=types.text, default="cancelled by a person", help="recorded with it")


def _cancel(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, "cancel",
                 lambda broker, job: orders.end_job(broker, job, arguments.reason[:MAX_REASON], keep=arguments.keep))


def _configure_retry(parser: ArgumentParser) -> None:
    add_choice(parser, choosing.RETRY_STATES, choosing.RETRY_KINDS)


def _retry(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, "retry", orders.retry_job)


def _configure_release(parser: ArgumentParser) -> None:
    add_choice(parser, choosing.RELEASE_STATES, choosing.RELEASE_KINDS)


def _release(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, "release", orders.release_job)


def _each(arguments: Namespace, context: Context, verb: str, act: Callable[[BrokerClient, str], Outcome]) -> int:
    """Do it to each job, and say what became of it."""
    console = context.console
    outcomes: list[dict[str, Any]] = []
    code = 0
    with BrokerClient(context.home) as broker:
        try:
            jobs = chosen(arguments, context, broker, verb)
            for done in choosing.each(broker, jobs or {}, act):
                outcomes.append(_told(done, console))
                code = done.error.exit_code if done.error is not None else code
        except NobodyToAskError as error:
            console.fail(error, would=error.jobs)
            return error.exit_code
        except BrokerUnavailableError as error:
            console.fail(error, jobs=outcomes)
            return error.exit_code
    if not arguments.jobs and outcomes:
        _sum_up(outcomes, console)
    if console.json:
        console.emit({"jobs": outcomes})
    elif verb in ("retry", "release") and len(outcomes) == 1 and not code:
        console.say(f"watch it: trainq follow {outcomes[0]['id']}")
    return code


def _told(done: choosing.Done, console: Console) -> dict[str, Any]:
    """Say what became of one job; the same for JSON."""
    if done.outcome is None:
        assert done.error is not None
        console.say(str(done.error) if done.job in str(done.error) else f"{done.job}: {done.error}")
        return {"id": done.job, "error": error_document(done.error)}
    outcome = msgspec.structs.asdict(done.outcome)
    if not console.json:
        console.line(f"{done.job}  {said(outcome)}")
    return outcome


def _sum_up(outcomes: list[dict[str, Any]], console: Console) -> None:
    """How many of those that a filter found ended up how."""
    refused = sum("error" in outcome for outcome in outcomes)
    kinds = Counter(outcome["state"] for outcome in outcomes if "error" not in outcome)
    parts = [f"{number} {state}" for state, number in sorted(kinds.items())]
    console.say(", ".join([*parts, *([f"{refused} refused"] if refused else [])]))


def end_one(broker: BrokerClient, job: str, reason: str, *, keep: bool) -> dict[str, Any]:
    """Have one job ended, with or without the steps that are done; what became of it."""
    return msgspec.structs.asdict(orders.end_job(broker, job, reason[:MAX_REASON], keep=keep))



def said(outcome: dict[str, Any]) -> str:
    """What became of one job, for people."""
    if outcome["state"] == JobState.RUNNING.value:
        return "running: it ends at the next step"
    already = "" if outcome["changed"] else " already"
    return f"{outcome['state']}{already}"


COMMANDS = {
    "cancel": Command(_configure_cancel, _cancel),
    "release": Command(_configure_release, _release),
    "retry": Command(_configure_retry, _retry),
}
