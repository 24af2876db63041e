"""When the next question may be asked of the broker, as stories with the times given; and who waits for whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from services.web import asking
from services.web.asking import (
    ASKERS,
    FREE_SECONDS,
    LONGS,
    MAX_WAITING,
    MOST_SECONDS,
    QUESTIONS_PER_SECOND,
    SHARE,
    Asker,
    Pace,
)
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, BusyError
from trainq.ids import new_request_id
from trainq.messages import GetOverview, Overview


def ask(pace: Pace, now: float, took: float, *, answered: bool = True) -> float:
    """One question, as soon as it may be asked from ``now`` on; when it is over."""
    now = max(now, now + pace.seconds_left(now))
    pace.begin(now)
    pace.end(now + took, answered=answered)
    return now + took


def test_cheap_questions_come_so_many_a_second() -> None:
    pace, now = Pace(), 100.0
    for _ in range(1000):
        now = ask(pace, now, 0.0002)
    assert now - 100.0 == pytest.approx(1000 / QUESTIONS_PER_SECOND, rel=0.01)


def test_dear_questions_take_their_share_of_the_time_and_no_more() -> None:
    pace, now = Pace(), 100.0
    for _ in range(1000):
        now = ask(pace, now, 0.05)
    assert 50.0 / (now - 100.0) == pytest.approx(SHARE, rel=0.15)


def test_who_has_not_asked_for_long_waits_for_nothing() -> None:
    pace, now = Pace(), 100.0
    for _ in range(2):
        began = now
        for _ in range(int(FREE_SECONDS / 0.05)):
            now = ask(pace, now, 0.05)
        assert now - began == pytest.approx(FREE_SECONDS)
        now += 2 * FREE_SECONDS / SHARE


def test_what_is_asked_at_once_counts_once() -> None:
    pace, now = Pace(), 100.0
    for _ in range(1000):
        now += max(0.0, pace.seconds_left(now))
        for _ in range(3):
            pace.begin(now)
        now += 0.05
        for _ in range(3):
            pace.end(now, answered=True)
    assert 50.0 / (now - 100.0) == pytest.approx(SHARE, rel=0.15)


def test_a_broker_that_is_away_or_busy_otherwise_holds_nobody_up_for_long() -> None:
    pace, now = Pace(), 100.0
    for _ in range(20):
        now = ask(pace, now, 3.0, answered=False)
    assert pace.seconds_left(now) < 0
    for _ in range(20):
        now = ask(pace, now, 3.0)
    assert pace.seconds_left(now) <= MOST_SECONDS / SHARE


def tell(story: Callable[[Asker], Coroutine[Any, Any, None]], home: Path, let: threading.Event) -> None:
    """Run the story; however it ends, ``let`` frees those who wait."""
    asker = Asker(Home(home))
    try:
        asyncio.run(story(asker))
    finally:
        let.set()
        asker.close()


def test_whoever_floods_it_keeps_no_order_and_no_reading_from_being_done(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TURN_SECONDS", 0.2)
    let, begun = threading.Event(), threading.Semaphore(0)

    def slow(_broker: BrokerClient) -> str:
        begun.release()
        let.wait(20)
        return "slow"

    async def story(asker: Asker) -> None:
        slow_ones = [asyncio.create_task(asker.ask(slow)) for _ in range(ASKERS)]
        for _ in range(ASKERS):
            await asyncio.to_thread(begun.acquire)
        others = [asyncio.create_task(asker.ask(slow)) for _ in range(MAX_WAITING - ASKERS)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):  # not even a place to wait
            await asker.ask(slow)
        assert await asker.order(lambda _broker: "ordered") == "ordered"
        assert await asker.read(lambda: "read") == "read"
        for refused in await asyncio.gather(*others, return_exceptions=True):
            assert isinstance(refused, BusyError)  # no turn in time
        let.set()
        assert await asyncio.gather(*slow_ones) == ["slow"] * ASKERS
        assert await asker.ask(slow) == "slow"

    tell(story, tmp_path, let)


def test_what_is_long_keeps_no_order_waiting_and_ends_at_its_next_question(tmp_path: Path) -> None:
    let, begun, failures = threading.Event(), threading.Semaphore(0), list[str]()

    def long(broker: BrokerClient) -> None:
        begun.release()
        let.wait(20)
        try:
            broker.call(GetOverview(request_id=new_request_id()), Overview)
        except BrokerUnavailableError as error:
            failures.append(str(error))
            raise

    async def story(asker: Asker) -> None:
        long_ones = [asyncio.create_task(asker.long(long)) for _ in range(LONGS)]
        for _ in range(LONGS):
            await asyncio.to_thread(begun.acquire)
        assert await asker.order(lambda _broker: "ordered") == "ordered"
        asker.close()  # it does not wait for them
        let.set()
        await asyncio.gather(*long_ones, return_exceptions=True)

    tell(story, tmp_path, let)
    assert len(failures) == LONGS
    assert all("web ends" in failure for failure in failures)
