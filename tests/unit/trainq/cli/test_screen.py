"""The live screen as lines: what fits, and what it says."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import learning
from trainq.cli.rendering import columns_of
from trainq.cli.screen import View, plain, screen
from trainq.figures import Alarm, ServiceStatus, WaitingJob
from trainq.gpu import Device, Devices
from trainq.jobs import JobKind, JobState
from trainq.messages import DiskView, EventView, JobView, Progress
from trainq.picture import StatusPicture

JOB = JobView(id="train-7", number=7, kind=JobKind.TRAIN, state=JobState.RUNNING, name="数据\x1b[31m.jsonl",
              priority="normal", origin="people", digest="0" * 64, size_bytes=10, prepared=True, rows=0, tokens=0,
              attempts=1, failures=0, submitted_at=100.0, started_at=100.0, ended_at=None, retry_at=0.0, reason="",
              cancel_reason=None, result=None,
              progress=Progress(step=3, steps=9, loss=2.5, learning_rate=1e-4, tokens_per_second=900.0))
SERVICES = tuple(ServiceStatus(name=name, pid=1, state=state, detail=detail, uptime_seconds=1.0, age_seconds=0.1)
                 for name, state, detail in (("broker", "RUNNING", ""), ("trainer", "PAUSED", "too\x1b hot"),
                                             ("status", "DEAD", "")))
WAITING = tuple(msgspec.convert({**msgspec.to_builtins(JOB), "id": f"train-{n}", "state": "queued",
                                 "progress": None, "starts_at": (1060.0, 1120.0)}, WaitingJob) for n in range(8, 40))
PICTURE = StatusPicture(
    v=1, at=1000.0, journal_id="j", seq=9, training=True, why="training train-7 (数据\x1b[31m.jsonl): step 3 of 9",
    broker_age_seconds=0.1, paused_reason=None, counts={"train": {"queued": 32, "running": 1}}, running=(JOB,),
    waiting=WAITING, generation=4, checkpoint="g000004-s00000300", step=300, services=SERVICES,
    disk=DiskView(state="warn", free_bytes=1 << 30, total_bytes=1 << 40, warn_below_bytes=0, hold_below_bytes=0,
                  full_in_hours=3.0),
    gpu=Devices(devices=(Device(index=0, name="A\x1b", utilization_percent=50),)),
    alarms=(Alarm(code="c", subject="s", level="bad", text="the head\x1b is marked", mend="look", since=1.0),),
    learning=learning())
EVENTS = [EventView(seq=seq, at=1000.0, type="QueuePaused", job="", body={"reason": "a\nb"}) for seq in range(1, 30)]
VIEW = View(home="/home/of/it", picture=PICTURE, source="status", age_seconds=0.5, now=1000.5,
            losses=[5.0, 4.0, 2.5], events=EVENTS, seconds_left=40.0)


def text(view: View, width: int = 100, height: int = 40) -> str:
    return "\n".join(plain(line) for line in screen(view, width, height))


def test_it_shows_everything() -> None:
    shown = text(VIEW)
    for part in ("status, 0.5 s old", "step 3 of 9", "3/9", "rate 0.0001", "ETA 40 s", "loss 5.000 to 2.500", "█",
                 "32 queued", "train-8", "broker", "trainer PAUSED", "status DEAD", r"trainer: too\x1b hot",
                 "1.0 GiB of 1.0 TiB free, full in 3.0 h", "g000004-s00000300",
                 "champion g000002-s00000020, first 5 m 0 s ago", "levels arithmetic 2, syllo 1",
                 r"! the head\x1b is marked: look", "in 1 m 0 s to 2 m 0 s",
                 r"gpu A\x1b, 50 %", "QueuePaused", r"reason=a\nb"):
        assert part in shown, part


@given(st.integers(1, 200), st.integers(1, 60))
def test_it_never_leaves_the_terminal(width: int, height: int) -> None:
    lines = [plain(line) for line in screen(VIEW, width, height)]
    assert len(lines) <= height
    assert all(columns_of(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("height", [3, 5, 8])
def test_of_a_low_terminal_why_is_what_stays(height: int) -> None:
    assert "step 3 of 9" in text(VIEW, height=height)


def test_with_nothing_known_it_says_so() -> None:
    assert "nothing is known yet" in text(View(home="/x"))


def test_an_old_picture_is_shown_as_one() -> None:
    (_, style) = screen(VIEW._replace(age_seconds=60.0, source="status.json"), 100, 40)[0][1]
    assert style == "bad"
