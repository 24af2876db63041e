"""Old copies of the model: what may go and why, the trash, pins; and the merging of the adapter into the weights."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.web.operations import Body, Call
from services.web.steering import Asked, ask_task
from trainq import planning, words
from trainq.errors import UsageError
from trainq.ids import new_request_id
from trainq.jobs import RemovalView, Store
from trainq.messages import (
    ConsolidateTask,
    Done,
    Pin,
    RetentionTask,
    Text,
    UndeleteTask,
    Unpin,
)
from trainq.planning import RetentionPlan

_CAUSE = "asked for by a person"


class UndeleteBody(Body, frozen=True, kw_only=True):
    """``removal`` is the number that the trash has for it."""

    removal: Annotated[int, Meta(ge=1, le=2**63 - 1)]


class PinBody(Body, frozen=True, kw_only=True):
    """The reason is for people, later."""

    reason: Text = "pinned by a person"


class ConsolidateBody(Body, frozen=True, kw_only=True):
    """``now``: before the files that wait, and not when none does."""

    now: bool = False


class Trash(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the trash, the newest first."""

    trash: list[RemovalView]


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the rules pass a copy over; not ``changed``: it was so already."""

    store: Store
    name: str
    pinned: bool
    changed: bool


async def plan(call: Call) -> RetentionPlan:
    home, settings = call.site.home, call.site.settings.retention
    with call.site.alone("a plan of retention"):
        return await call.site.asker.long(lambda broker: planning.retention_plan(broker, home, settings))


async def apply(call: Call) -> Asked:
    return await ask_task(call, RetentionTask(), _CAUSE)


async def trash(call: Call) -> Trash:
    return Trash(trash=await call.site.asker.ask(planning.trash))


async def undelete(call: Call) -> Asked:
    return await ask_task(call, UndeleteTask(removal=call.body.removal), _CAUSE)


async def consolidate(call: Call) -> Asked:
    return await ask_task(call, ConsolidateTask(now=call.body.now), _CAUSE)


async def pin(call: Call) -> Pinned:
    store, name = _copy(call)
    return await _change(call, Pin(request_id=new_request_id(), store=store, name=name, reason=call.body.reason))


async def unpin(call: Call) -> Pinned:
    store, name = _copy(call)
    return await _change(call, Unpin(request_id=new_request_id(), store=store, name=name))


def _copy(call: Call) -> tuple[Store, str]:
    stores = {store.value: store for store in (Store.CHECKPOINTS, Store.SNAPSHOTS)}
    word = call.path("store")
    if word not in stores:
        raise UsageError(f"copies lie in {' and '.join(stores)}, and not in {word!r}")
    return stores[word], words.generation(call.path("name"))


async def _change(call: Call, order: Pin | Unpin) -> Pinned:
    done = await call.site.asker.order(lambda broker: broker.call(order, Done))
    return Pinned(store=order.store, name=order.name, pinned=isinstance(order, Pin), changed=done.changed)
