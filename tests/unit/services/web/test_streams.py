"""Where a stream begins."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services.web import streams
from services.web.feed import Feed
from services.web.sending import LARGE_BYTES, MAX_BYTES, Sending
from services.web.streams import place_in
from trainq.errors import UsageError
from trainq.messages import Events, EventView


@pytest.mark.parametrize(("last", "after", "place"), [
    (None, None, None), ("", 3, 3), (None, 0, 0), ("7", 3, 7), ("0", None, 0), (str(2**63 - 1), None, 2**63 - 1)])
def test_the_last_event_that_was_seen_wins(last: str | None, after: int | None, place: int | None) -> None:
    assert place_in(last, after) == place


@pytest.mark.parametrize("last", ["x", "-1", "1.0", "\u0667", "1 ", str(2**63), "9" * 5000])
def test_what_is_no_number_of_an_event(last: str) -> None:
    with pytest.raises(UsageError):
        place_in(last, None)


def test_a_stream_that_gets_no_room_leaves_the_loop_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RETRY_SECONDS", 0.01)

    class Journal:
        async def ask(self, _question: object) -> Events:
            return Events(journal_id="j", head_seq=0, events=[])

    async def listen() -> list[bytes]:
        site: Any = SimpleNamespace(feed=Feed(), sending=Sending(), asker=Journal())
        stream = streams.journal_stream(site, 0, "")
        told = [await anext(stream), await anext(stream)]
        site.feed.add([EventView(seq=seq, at=0.0, type="JobQueued", job="", body={"text": "x" * LARGE_BYTES})
                       for seq in range(1, 4)])
        refused = 0

        def check(size_bytes: int) -> None:
            nonlocal refused
            refused += 1
            Sending.check(site.sending, size_bytes)

        monkeypatch.setattr(site.sending, "check", check)
        with site.sending.counted(MAX_BYTES):  # somebody reads nothing of a large answer
            more = asyncio.ensure_future(anext(stream))
            while refused < 3:
                await asyncio.sleep(0.005)
            assert not more.done()
        told.append(await more)
        told += [await anext(stream) for _ in range(2)]
        assert refused < 30
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        return told

    told = asyncio.run(asyncio.wait_for(listen(), 10))
    assert [frame.partition(b"\n")[0] for frame in told[2:]] == [b"id: 1", b"id: 2", b"id: 3"]
