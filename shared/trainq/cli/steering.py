"""``trainq cancel``, ``trainq retry``, ``trainq pause`` and ``trainq resume``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from trainq.cli import arguments as types
from trainq.cli.console import error_document
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, TrainqError
from trainq.ids import new_request_id
from trainq.jobs import JobState
from trainq.messages import Cancel, Done, JobDetail, PauseQueue, ResumeQueue, Retry, ShowJob

MAX_REASON = 4096  # as the protocol has it


def _configure_cancel(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", type=types.job_id, nargs="+", metavar="JOB", help="train-7, or 7 for short")
    parser.add_argument("--reason", type=types.text, default="", help="recorded with it")


def _cancel(arguments: Namespace, context: Context) -> int:
    return _each(arguments, context, lambda broker, job: _cancel_one(broker, job, arguments.reason))


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
                console.line(f"{job}  {_said(outcomes[-1])}")
    if console.json:
        console.emit({"jobs": outcomes})
    return code


def _cancel_one(broker: BrokerClient, job: str, reason: str) -> dict[str, Any]:
    request = Cancel(request_id=new_request_id(), job=job)
    if reason:
        request = Cancel(request_id=request.request_id, job=job, reason=reason[:MAX_REASON])
    done = broker.call(request, Done)
    state = broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail).job.state
    return {"id": job, "state": state.value, "changed": done.changed}


def _retry_one(broker: BrokerClient, job: str) -> dict[str, Any]:
    done = broker.call(Retry(request_id=new_request_id(), job=job), Done)
    state = broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail).job.state
    return {"id": job, "state": state.value, "changed": done.changed}


def _said(outcome: dict[str, Any]) -> str:
    if outcome["state"] == JobState.RUNNING.value:
        return "running: it ends at the next step"
    already = "" if outcome["changed"] else " already"
    return f"{outcome['state']}{already}"


def _configure_pause(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", type=types.text, default="", help="shown by status and why until resumed")


def _pause(arguments: Namespace, context: Context) -> int:
    request = PauseQueue(request_id=new_request_id())
    if arguments.reason:
        request = PauseQueue(request_id=request.request_id, reason=arguments.reason[:MAX_REASON])
    return _tell(context, request, paused=True)


def _configure_resume(_parser: ArgumentParser) -> None:
    pass


def _resume(_arguments: Namespace, context: Context) -> int:
    return _tell(context, ResumeQueue(request_id=new_request_id()), paused=False)


def _tell(context: Context, request: PauseQueue | ResumeQueue, *, paused: bool) -> int:
    with BrokerClient(context.home) as broker:
        done = broker.call(request, Done)
    if context.console.json:
        context.console.emit({"paused": paused, "changed": done.changed})
        return 0
    if not done.changed:
        context.console.line("paused already" if paused else "it was not paused")
        return 0
    context.console.line("paused" if paused else "resumed")
    if paused:
        context.console.say("a job that runs now goes on to its end; trainq resume lets the next one start")
    return 0


COMMANDS = {
    "cancel": Command(_configure_cancel, _cancel),
    "retry": Command(_configure_retry, _retry),
    "pause": Command(_configure_pause, _pause),
    "resume": Command(_configure_resume, _resume),
}
