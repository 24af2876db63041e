"""``trainq cancel`` and ``trainq retry``: what is done to jobs one by one, to those named or all that are found."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from trainq import orders
from trainq.cli import arguments as types
from trainq.cli.choosing import NobodyToAskError, add_choice, chosen
from trainq.cli.console import Console, error_document
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, TrainqError, UsageError
from trainq.jobs import TASKS, JobKind, JobState
from trainq.messages import Overview

MAX_REASON = 4096  # as the protocol has it
# Longer than a trainer that lives is silent towards a broker that is there, whatever [broker] heartbeat_seconds says.
UNHEARD_SECONDS = 30.0


def is_trainer_gone(overview: Overview) -> bool:
    """Whether this broker would have heard of a trainer by now, and has not; one that has just come up would not."""
    trainer = overview.trainer
    return (overview.up_seconds if trainer is None else trainer.age_seconds) > UNHEARD_SECONDS


def _configure_cancel(parser: ArgumentParser) -> None:
    add_choice(parser, (JobState.QUEUED, JobState.HELD, JobState.RUNNING),
               (JobKind.TRAIN, *(kind for kind in JobKind if kind in TASKS)))
    parser.add_argument("--keep", action="store_true", help="what a running one has taught stays; it is done with that")
    parser.add_argument("--reason", type=types.text, default="cancelled by a person", help="recorded with it")


def _cancel(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, "cancel",
                 lambda broker, job: end_one(broker, job, arguments.reason, keep=arguments.keep))


def _configure_retry(parser: ArgumentParser) -> None:
    add_choice(parser, (JobState.QUARANTINED, JobState.CANCELLED), (JobKind.TRAIN,))


def _retry(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, "retry", _retry_one)


def _each(arguments: Namespace, context: Context, verb: str,
          act: Callable[[BrokerClient, str], dict[str, Any]]) -> int:
    """Do it to each job; what is wrong with one is no other's fault."""
    console = context.console
    outcomes: list[dict[str, Any]] = []
    code = 0
    with BrokerClient(context.home) as broker:
        try:
            jobs = chosen(arguments, context, broker, verb)
            for job, state in (jobs or {}).items():
                outcomes.append(_one(broker, job, state, act, console))
                code = outcomes[-1].pop("code", code)
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
    elif verb == "retry" and len(outcomes) == 1 and not code:
        console.say(f"watch it: trainq follow {outcomes[0]['id']}")
    return code


def _one(broker: BrokerClient, job: str, state: JobState | None, act: Callable[[BrokerClient, str], dict[str, Any]],
         console: Console) -> dict[str, Any]:
    """Do it to one job; what became of it, with the exit ``code`` if it was refused.

    ``state`` is the one for which a filter has chosen it: a person has agreed to that, and to no other.
    """
    try:
        if state is not None and (now := orders.state_of(broker, job)) is not state:
            raise UsageError(f"{job} is {now.value} by now, and was {state.value} when it was chosen: left alone",
                             mend="name it if it is meant all the same")
        outcome = act(broker, job)
    except BrokerUnavailableError:
        raise
    except TrainqError as error:
        console.say(str(error) if job in str(error) else f"{job}: {error}")
        return {"id": job, "error": error_document(error), "code": error.exit_code}
    if not console.json:
        console.line(f"{job}  {said(outcome)}")
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
