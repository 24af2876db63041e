"""The status picture from the best source there is: the broker, else ``status.json`` with its age."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from trainq import picture
from trainq.cli.context import Context
from trainq.cli.rendering import duration
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError
from trainq.ids import new_request_id
from trainq.liveness import is_alive
from trainq.messages import GetOverview, Lifecycle, Overview
from trainq.picture import DEAD, StatusPicture

# A broker that is being restarted by supervisord is back well within this.
ANSWER_SECONDS = 3.0


class Sighting(NamedTuple):
    """A picture, where it came from, and how old it is."""

    picture: StatusPicture
    source: str
    age_seconds: float

    def document(self) -> dict[str, object]:
        """The picture for JSON, with what is known of its source."""
        document: dict[str, object] = msgspec.to_builtins(self.picture)
        return {**document, "source": self.source, "age_seconds": round(self.age_seconds, 3)}


def look(context: Context) -> Sighting:
    """The picture of now; with the broker down the last one that was written, which is said on stderr.

    Raises:
        BrokerUnavailableError: the broker does not answer, and there is no picture on disk that can be read.
    """
    try:
        with BrokerClient(context.home) as broker:
            overview = broker.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=ANSWER_SECONDS)
    except BrokerUnavailableError as error:
        return last_written(context, error)
    return Sighting(fold(context, overview), "broker", 0.0)


def fold(context: Context, overview: Overview) -> StatusPicture:
    """The picture from an overview that the broker has just sent."""
    return picture.fold(overview, overview_age_seconds=0.0, now_wall=time.time(), is_alive=is_alive,
                        silent_after_seconds=picture.silent_after(context.configuration.settings.broker))


def last_written(context: Context, unavailable: BrokerUnavailableError) -> Sighting:
    """The picture of ``status.json``, with its age said on stderr; ``unavailable`` is raised if there is none."""
    file = context.home.status_file
    try:
        written = msgspec.json.decode(file.read_bytes(), type=StatusPicture)
    except FileNotFoundError:
        raise unavailable from None
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        context.console.say(f"{file} cannot be read either: {error}")
        raise unavailable from error
    age = max(0.0, time.time() - written.at)
    context.console.say(f"the broker does not answer; this is status.json, {duration(age)} old")
    return Sighting(_as_of_now(written, age), "status.json", age)


def _as_of_now(written: StatusPicture, age_seconds: float) -> StatusPicture:
    """What can be known without the broker: which processes still live, and that it does not answer."""
    services = tuple(
        msgspec.structs.replace(
            service, age_seconds=None if service.age_seconds is None else round(service.age_seconds + age_seconds, 3),
            **({"state": DEAD, "uptime_seconds": None} if _died(service) else {}))
        for service in written.services)
    broker_age = None if written.broker_age_seconds is None else round(written.broker_age_seconds + age_seconds, 3)
    why = f"the broker does not answer: supervisorctl status broker ({duration(age_seconds)} ago: {written.why})"
    return msgspec.structs.replace(written, services=services, broker_age_seconds=broker_age, training=False, why=why)


def _died(service: picture.ServiceStatus) -> bool:
    return service.pid > 0 and service.state not in (Lifecycle.STOPPED, DEAD) and not is_alive(service.pid)
