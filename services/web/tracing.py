"""Lineage both ways, as ``trainq lineage`` has it: what made a generation, and which generations hold a file.

With the broker down the copies' manifests are asked alone (``source``), which know less. What a row did needs torch,
and stays with the command.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.web.operations import Call, Query
from trainq import words
from trainq.errors import BrokerUnavailableError
from trainq.tracing import copies, holding, making
from trainq.tracing.copies import Stock


class MadeQuery(Query, frozen=True, kw_only=True):
    """The newest ``limit`` files in it."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of which there is a copy; or, if it is ``gone``, a stretch of which there is none."""

    first: int
    last: int
    gone: bool
    name: str | UnsetType = UNSET
    step: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    job: str | UnsetType = UNSET
    job_step: int | UnsetType = UNSET
    done: bool | UnsetType = UNSET
    parent: str | UnsetType = UNSET
    made_by: str | UnsetType = UNSET
    restored_from: int | UnsetType = UNSET
    stores: list[str] | UnsetType = UNSET


class FileWithin(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was trained to its end, in ``generation``; manifests know what was seen of it, and not the rest."""

    job: str
    name: str
    digest: str
    rows: int | None
    tokens: int | None
    steps: int | None
    generation: int | None
    trained_at: float | None
    rows_seen: int | UnsetType = UNSET
    tokens_seen: int | UnsetType = UNSET


class FileHalfDone(msgspec.Struct, frozen=True, kw_only=True):
    """The file in the middle of which a generation is."""

    job: str
    steps: int
    steps_planned: int


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What made a generation: the newest of the ``job_count`` files in it (null: not known), in the order of training;
    and the ``chain`` of those before it, newest first. ``left_out``: copies that cannot be read.
    """

    generation: int
    name: str | None
    stores: list[str]
    source: str
    head: int | None
    rows_seen: int | None
    tokens_seen: int | None
    chain: list[Link]
    jobs: list[FileWithin]
    job_count: int | None
    in_the_middle_of: FileHalfDone | None
    left_out: list[str]


class CopyNamed(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a generation, and where it lies; one that is in the middle of the file says how far."""

    generation: int
    name: str
    stores: list[str]
    steps: int | UnsetType = UNSET
    steps_planned: int | UnsetType = UNSET


class JobHeld(msgspec.Struct, frozen=True, kw_only=True):
    """A job with the content: in which generations it was trained to its end, and which hold it, whole or half.

    ``held_by_gone`` are stretches, ``half_in_gone`` numbers of generations of which there is no copy any more.
    """

    job: str
    name: str
    digest: str
    state: str
    reason: str
    rows: int
    tokens: int
    trained_in: list[int]
    in_head: bool
    held_by: list[CopyNamed]
    held_by_gone: list[tuple[int, int]]
    half_in: list[CopyNamed]
    half_in_gone: list[int]


class Holders(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the content. From the broker: job by job, the oldest first.

    From manifests: which copies, and of which it is ``unknown``. ``left_out``: copies that cannot be read.
    """

    digest: str | None
    source: str
    left_out: list[str]
    head: int | UnsetType = UNSET
    jobs: list[JobHeld] | UnsetType = UNSET
    job: str | UnsetType | None = UNSET
    held_by: list[CopyNamed] | UnsetType = UNSET
    half_in: list[CopyNamed] | UnsetType = UNSET
    unknown: list[CopyNamed] | UnsetType = UNSET


async def made(call: Call) -> Made:
    number, limit = words.generation_number(call.path("name")), call.query.limit
    with call.site.alone("a look at the lineage"):
        stock = await _stock(call)
        try:
            document = await call.site.asker.long(
                lambda broker: making.from_journal(broker, number, stock, limit))
        except BrokerUnavailableError:
            told = await call.site.asker.wait(lambda: making.from_manifests(number, stock))
            if told is None:
                raise
            document = {**told, "jobs": told["jobs"][-limit:]}
    return msgspec.convert({**document, "left_out": stock.unreadable}, Made)


async def of_job(call: Call) -> Holders:
    return await _holders(call, None, words.job_id(call.path("job")))


async def of_digest(call: Call) -> Holders:
    return await _holders(call, words.digest(call.path("digest")), None)


async def _holders(call: Call, digest: str | None, job: str | None) -> Holders:
    with call.site.alone("a look at the lineage"):
        stock = await _stock(call)
        try:
            document = await call.site.asker.long(lambda broker: holding.from_journal(broker, digest, job, stock))
        except BrokerUnavailableError:
            document = await call.site.asker.wait(lambda: holding.from_manifests(digest, job, stock))
    return msgspec.convert({**document, "left_out": stock.unreadable}, Holders)


async def _stock(call: Call) -> Stock:
    return await call.site.asker.wait(lambda: copies.read(call.site.home))
