"""The services: how each is, and orders to it. Starting and stopping are supervisord's, and need no broker.

Who stops this process over HTTP would get no answer, and nobody would start it again: that is refused. A restart is
done by a process of its own: whoever left in the middle would leave the service stopped.
"""

from __future__ import annotations

import asyncio
import functools
import subprocess
from collections.abc import Callable

import msgspec

from services.web import children, health
from services.web.children import Wrong
from services.web.operations import Body, Call
from trainq import picture, servicing
from trainq.config import project_root
from trainq.errors import NotFoundError, StorageError, SupervisorUnavailableError, TrainqError, UsageError
from trainq.ids import new_request_id
from trainq.messages import Done, PauseQueue, ResumeQueue, Text
from trainq.servicing import ServiceRow, Steered
from trainq.supervising import Program, Supervisor

_OWN = "web"
_LOOK_SECONDS = 0.05
# In a session of its own, and deaf to what asks it to end: it outlives this process, and comes to its end.
_RESTART = """
import signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
from pathlib import Path
from trainq.servicing import restart_told
run, socket, name = sys.argv[1:]
sys.stdout.buffer.write(restart_told(Path(run), Path(socket), name))
"""


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


class _Said(msgspec.Struct, frozen=True):
    """What the process that restarts a service writes."""

    steered: Steered | None = None
    error: Wrong | None = None


def _supervisor() -> Supervisor:
    return Supervisor.of_this_program() or Supervisor.beside(project_root())


async def list_services(call: Call) -> Services:
    services: Services = await call.site.services.get(lambda: _services(call))
    return services


async def _services(call: Call) -> Services:
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

    # supervisord may take its time.
    return await call.site.asker.wait(look)


async def start(call: Call) -> Steered:
    return await _steer(call, functools.partial(servicing.started, call.site.home.run), servicing.is_running)


async def stop(call: Call) -> Steered:
    _refuse_own(call.path("service"))
    return await _steer(call, servicing.stopped, servicing.has_ended)


async def restart(call: Call) -> Steered:
    name, supervisor = call.path("service"), _supervisor()
    _refuse_own(name)
    with call.site.alone(_order_to(name)):
        await call.site.asker.wait(lambda: supervisor.program(name))  # before anything is done: whether there is one
        said = await _apart(str(call.site.home.run), str(supervisor.socket), name)
    return _restarted(name, said)


async def _apart(*words: str) -> bytes:
    """What the process says that restarts a service. It is not ended with who waits for it."""
    # None of asyncio's: those are killed when the loop ends.
    child = subprocess.Popen(children.command(_RESTART, *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, start_new_session=True, env=children.environment())
    assert child.stdout is not None
    with child.stdout:
        while child.poll() is None:
            await asyncio.sleep(_LOOK_SECONDS)
        return child.stdout.read()


def _restarted(name: str, content: bytes) -> Steered:
    try:
        said = msgspec.json.decode(content, type=_Said)
    except msgspec.MsgspecError:
        said = _Said()
    if said.steered is not None:
        return said.steered
    wrong = said.error or Wrong(TrainqError.code, f"the process that restarts {name} has ended without an answer",
                                f"trainq services list; trainq services start {name}")
    raise wrong.error()


def _order_to(name: str) -> str:
    return f"an order to {name}"


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

    with call.site.alone(_order_to(name)):
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
