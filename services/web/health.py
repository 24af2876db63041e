"""Whether all is well: this process, the whole, and each service."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path

import msgspec
from starlette.responses import Response

from services.web.exposition import CONTENT_TYPE
from services.web.operations import Call, answered
from services.web.sites import Site
from trainq import __version__, alarms, picture
from trainq.errors import BrokerUnavailableError, BusyError, NotFoundError
from trainq.liveness import is_alive
from trainq.messages import Lifecycle
from trainq.picture import DEAD, ServiceStatus, StatusPicture

_PAGE = Path(__file__).parent / "page"
_MEDIA = {"index.html": "text/html; charset=utf-8", "page.js": "text/javascript; charset=utf-8",
          "page.css": "text/css; charset=utf-8"}


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """This process lives and answers; ``uptime_seconds`` is how long it has."""

    status: str
    pid: int
    uptime_seconds: float
    version: str


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether files that are submitted now will be trained: the broker answers, and the trainer is up.

    ``reason`` says what is not so.
    """

    ready: bool
    reason: str


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What is training, or why nothing is, as of ``age_seconds`` ago."""

    why: str
    training: bool
    source: str
    age_seconds: float


async def health(call: Call) -> Health:
    uptime = call.site.clock.monotonic() - call.site.started_at
    return Health(status="ok", pid=os.getpid(), uptime_seconds=round(uptime, 3), version=__version__)


async def ready(call: Call) -> Response:
    reason = await _why_not_ready(call)
    return answered(Readiness(ready=not reason, reason=reason),
                    HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK)


async def _why_not_ready(call: Call) -> str:
    try:
        overview = await call.site.overview()
    except (BrokerUnavailableError, BusyError) as error:
        return error.message
    trainer = overview.trainer
    if trainer is None:
        return "the trainer has not been heard of"
    if not is_alive(trainer.pid):
        return "the trainer is not running"
    if trainer.age_seconds > picture.silent_after(call.site.settings.broker):
        return f"the trainer has not been heard of for {trainer.age_seconds:.0f} s"
    # What waits for an order or a loan is trained after it; where no trainer is wanted, nothing is.
    if trainer.state is Lifecycle.RUNNING or alarms.passes(trainer):
        return ""
    return f"the trainer is {trainer.state.value}: {trainer.detail}"


async def status(call: Call) -> object:
    return call.site.status()


async def why(call: Call) -> Why:
    told = call.site.status()
    return Why(why=told["why"], training=told["training"], source=told["source"], age_seconds=told["age_seconds"])


async def service_health(call: Call) -> Response:
    name = call.path("service")
    seen = call.site.picture()
    found = next((service for service in seen.services if service.name == name), None)
    if found is None:
        raise NotFoundError(f"there is no service {name}", mend=f"there are {', '.join(picture.SERVICES)}")
    found = as_of_now(found, seen, call.site)
    is_well = _is_well(found, call)
    return answered(found, HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)


def as_of_now(found: ServiceStatus, seen: StatusPicture, site: Site) -> ServiceStatus:
    """That of the newest picture; but a process that has ended since is dead, whatever the picture says."""
    age = found.age_seconds
    if age is not None:
        found = msgspec.structs.replace(found, age_seconds=round(age + site.age_of(seen), 3))
    if found.pid and found.state != Lifecycle.STOPPED and not is_alive(found.pid):
        found = msgspec.structs.replace(found, state=DEAD, uptime_seconds=None)
    return found


def _is_well(service: ServiceStatus, call: Call) -> bool:
    # One that rests as somebody wants it, or goes on by itself, is well; one that has given up is not. Who is never
    # told of any more cannot be known to be well.
    fresh = (service.age_seconds or 0.0) <= 2 * picture.silent_after(call.site.settings.broker)
    rests = alarms.is_wanted(service) or alarms.passes(service)
    return fresh and (rests or service.state == Lifecycle.RUNNING)


async def metrics(call: Call) -> Response:
    """The text format of Prometheus."""
    seen, now = call.site.picture(), call.site.clock.wall()
    page = await call.site.asker.ask(lambda broker: call.site.exposition.render(seen, broker, now))
    return Response(page, media_type=CONTENT_TYPE)


def page(name: str) -> Response:
    """A file of the page: three there are, and no path of a request is ever made one of the disk."""
    return Response((_PAGE / name).read_bytes(), media_type=_MEDIA[name])


async def index(_call: Call) -> Response:
    return page("index.html")


async def script(_call: Call) -> Response:
    return page("page.js")


async def style(_call: Call) -> Response:
    return page("page.css")
