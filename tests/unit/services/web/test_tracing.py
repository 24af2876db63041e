"""Lineage while the broker is away: what the manifests of the copies know, and what is left out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from services.web import tracing
from services.web.operations import Call
from services.web.sites import Site
from services.web.tracing import MadeQuery
from tests import generations
from trainq.clock import SystemClock
from trainq.config import Home, Settings
from trainq.errors import BrokerUnavailableError, UsageError
from trainq.logs import EventLog


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """With two generations, one that is damaged, and no broker."""
    home = Home(tmp_path)
    first = generations.publish(home.checkpoints, 1, {"a": b"1"})
    generations.publish(home.checkpoints, 2, {"a": b"2"}, parent=first, job="train-1", done=False)
    damaged = generations.publish(home.checkpoints, 3, {"a": b"3"})
    (home.checkpoints / damaged / "manifest.json").write_bytes(b"{")
    made = Site(home, Settings(), EventLog(logging.getLogger("tracing")), SystemClock(), "token")

    async def long(_question: object) -> Any:
        raise BrokerUnavailableError("no answer")

    async def order(_question: object) -> Any:
        raise AssertionError("what takes long keeps no order waiting")

    monkeypatch.setattr(made.asker, "long", long)
    monkeypatch.setattr(made.asker, "order", order)
    yield made
    made.close()


def call(site: Site, **path: str) -> Call:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "path_params": path}
    return Call(site, Request(scope), MadeQuery(), None)


def test_what_made_a_generation(site: Site) -> None:
    made = asyncio.run(tracing.made(call(site, name="head")))
    assert (made.generation, made.source, made.head) == (2, "manifests", None)
    assert [(link.first, link.gone) for link in made.chain] == [(2, False), (1, False)]
    assert made.in_the_middle_of is not None
    assert made.in_the_middle_of.job == "train-1"
    assert len(made.left_out) == 1
    assert "g000003" in made.left_out[0]


def test_a_generation_of_which_there_is_no_copy(site: Site) -> None:
    with pytest.raises(BrokerUnavailableError):
        asyncio.run(tracing.made(call(site, name="7")))
    with pytest.raises(UsageError):
        asyncio.run(tracing.made(call(site, name="../1")))


def test_who_holds_a_job(site: Site) -> None:
    told = asyncio.run(tracing.of_job(call(site, job="1")))
    assert (told.job, told.source, told.held_by) == ("train-1", "manifests", [])
    assert [copy.generation for copy in told.unknown or ()] == [2]
    assert len(told.left_out) == 1
