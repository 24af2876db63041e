"""What all answers are made from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.web.sites import OneForAll, Site
from stories import HandClock
from trainq import config
from trainq.errors import BrokerUnavailableError
from trainq.logs import null_log


def test_a_broker_that_is_away_is_one_error_that_does_not_grow(tmp_path: Path) -> None:
    configuration = config.load({"TRAINQ_HOME": str(tmp_path)}, tmp_path)
    site = Site(configuration.home, configuration.settings, null_log(), HandClock(), "token")
    error = BrokerUnavailableError("it does not answer")
    site._overviews._made = site.clock.monotonic(), error

    async def ask() -> int:
        with pytest.raises(BrokerUnavailableError) as raised:
            await site.overview()
        assert raised.value is error
        return len(raised.traceback)

    async def ask_often() -> list[int]:
        return [await ask() for _ in range(5)]

    try:
        assert len(set(asyncio.run(ask_often()))) == 1
    finally:
        site.close()


def test_one_answer_serves_all_who_ask_while_it_is_fresh() -> None:
    clock, made = HandClock(), list[float]()

    async def make() -> float:
        await asyncio.sleep(0)
        made.append(clock.now)
        if len(made) == 3:
            raise BrokerUnavailableError("it does not answer")
        return clock.now

    async def story() -> None:
        answer = OneForAll[float](1.0, clock.monotonic)
        assert await asyncio.gather(*(answer.get(make) for _ in range(20))) == [1000.0] * 20
        clock.now += 1.0
        assert (await answer.get(make), len(made)) == (1000.0, 1)
        clock.now += 0.1
        assert (await answer.get(make), len(made)) == (1001.1, 2)
        clock.now += 1.1
        with pytest.raises(BrokerUnavailableError):
            await answer.get(make)
        assert (await answer.get(make), len(made)) == (clock.now, 4)

    asyncio.run(story())
