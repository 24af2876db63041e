"""Where a job stands, said once after a submit: its place in the line, and why nothing of it is trained now."""

from __future__ import annotations

from trainq.cli import picturing
from trainq.cli.context import Context
from trainq.client import BrokerClient
from trainq.errors import TrainqError
from trainq.ids import new_request_id
from trainq.messages import GetOverview, Overview

_ANSWER_SECONDS = 1.0


def say_standing(job: str, context: Context) -> None:
    """Say it on stderr. It is a hint: a broker that does not say so at once is not waited for."""
    try:
        with BrokerClient(context.home) as broker:
            overview = broker.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=_ANSWER_SECONDS)
    except TrainqError:
        return
    at = next((place for place, waiting in enumerate(overview.waiting, 1) if waiting.id == job), 0)
    place = f"{job} is number {at} in the line; " if at > 1 else ""
    context.console.say(place + picturing.fold(context, overview).why)
