"""The status picture from the best source there is: the broker, else ``status.json`` with its age.

What the broker does not know (the machine, the copies, restarts, how fast jobs go) is the status process's, and read
from ``status.json`` in both cases; the picture says how old it is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainq import alarms, picture
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
    """The picture from an overview that the broker has just sent, and from what the status process has observed."""
    try:
        observed = picture.observations_of(_written(context.home.status_file))
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        observed = picture.NOTHING_OBSERVED  # which shows in the ages
    return picture.fold(overview, overview_age_seconds=0.0, now_wall=time.time(), is_alive=is_alive,
                        silent_after_seconds=picture.silent_after(context.configuration.settings.broker),
                        observed=observed)


def last_written(context: Context, unavailable: BrokerUnavailableError) -> Sighting:
    """The picture of ``status.json``, with its age said on stderr; ``unavailable`` is raised if there is none."""
    file = context.home.status_file
    try:
        written = _written(file)
    except FileNotFoundError:
        raise unavailable from None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
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
    # When the next one starts, nobody knows: only the broker lets it.
    waiting = tuple(msgspec.structs.replace(job, starts_at=None, ends_at=None) for job in written.waiting)
    return msgspec.structs.replace(
        written, services=services, broker_age_seconds=broker_age, training=False, why=why, waiting=waiting,
        ages=picture.older(written.ages, age_seconds),
        alarms=alarms.without_broker(written.alarms, services, written.gpu, time.time()))


def _written(file: Path) -> StatusPicture:
    return msgspec.json.decode(file.read_bytes(), type=StatusPicture)


def _died(service: picture.ServiceStatus) -> bool:
    return service.pid > 0 and service.state not in (Lifecycle.STOPPED, DEAD) and not is_alive(service.pid)
