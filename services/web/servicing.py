"""The services: how each is, and orders to it. Starting and stopping are supervisord's, and need no broker.

Who stops this process over HTTP would get no answer, and nobody would start it again: that is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from services.web import health
from services.web.operations import Body, Call
from trainq import picture, servicing
from trainq.config import project_root
from trainq.errors import NotFoundError, StorageError, SupervisorUnavailableError, UsageError
from trainq.ids import new_request_id
from trainq.messages import Done, PauseQueue, ResumeQueue, Text
from trainq.servicing import ServiceRow, Steered
from trainq.supervising import Program, Supervisor

_OWN = "web"


class RestBody(Body, frozen=True, kw_only=True):
    """The reason is shown by status until the service is resumed."""

    reason: Text = "paused by a person"


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """All services; ``supervisord``: it answers, else nothing is known of the programs."""

    services: list[ServiceRow]
    supervisord: bool


class Rested(msgspec.Struct, frozen=True, kw_only=True):
    """Not ``changed``: it was so already. ``note`` says why it rests all the same; empty if it does not."""

    name: str
    changed: bool
    note: str


def _supervisor() -> Supervisor:
    return Supervisor.of_this_program() or Supervisor.beside(project_root())


async def list_services(call: Call) -> Services:
    try:
        seen = call.site.picture()
        statuses = [health.as_of_now(status, seen, call.site) for status in seen.services]
    except (NotFoundError, StorageError):
        statuses = []
    run = call.site.home.run

    def look() -> Services:
        try:
            programs, answers = {program.name: program for program in _supervisor().programs()}, True
        except SupervisorUnavailableError:
            programs, answers = {}, False
        return Services(services=servicing.views(run, programs, statuses), supervisord=answers)

    return await call.site.asker.read(look)


async def start(call: Call) -> Steered:
    return await _steer(call, functools.partial(servicing.started, call.site.home.run), servicing.is_running)


async def stop(call: Call) -> Steered:
    _refuse_own(call.path("service"))
    return await _steer(call, servicing.stopped, servicing.has_ended)


async def restart(call: Call) -> Steered:
    _refuse_own(call.path("service"))
    return await _steer(call, functools.partial(servicing.restarted, call.site.home.run), servicing.is_running)


def _refuse_own(name: str) -> None:
    if name == _OWN:
        raise UsageError(f"{_OWN} does not end itself: nobody would be left to answer",
                         mend=f"trainq services restart {_OWN}, or stop")


async def _steer(call: Call, act: Callable[[Supervisor, list[str]], list[Program]],
                 is_done: Callable[[Program], bool]) -> Steered:
    name = call.path("service")

    def steered() -> Steered:
        supervisor = _supervisor()
        supervisor.program(name)  # before anything is done: whether there is one
        (program,) = act(supervisor, [name])
        return servicing.steered(program, is_done)

    with call.site.alone(f"an order to {name}"):
        return await call.site.asker.wait(steered)


async def pause(call: Call) -> Rested:
    name, reason, home = _known(call), call.body.reason, call.site.home
    servicing.check_pausable(name)
    if name == servicing.TRAINER:
        order = PauseQueue(request_id=new_request_id(), reason=reason)
        changed = (await call.site.asker.order(lambda broker: broker.call(order, Done))).changed
    else:
        changed = await call.site.asker.read(lambda: servicing.pause(home, name, reason))
    return Rested(name=name, changed=changed, note="")


async def resume(call: Call) -> Rested:
    name, home = _known(call), call.site.home
    servicing.check_pausable(name)
    changed = await call.site.asker.read(lambda: servicing.resume(home, name))
    if name == servicing.TRAINER:
        order = ResumeQueue(request_id=new_request_id())
        changed = (await call.site.asker.order(lambda broker: broker.call(order, Done))).changed or changed
    note = await call.site.asker.read(lambda: servicing.why_still_paused(home, name))
    return Rested(name=name, changed=changed, note=note)


def _known(call: Call) -> str:
    """A service of ours: its name becomes a part of a file's."""
    name = call.path("service")
    if name not in picture.SERVICES:
        raise NotFoundError(f"there is no service {name}", mend=f"there are: {', '.join(picture.SERVICES)}")
    return name
