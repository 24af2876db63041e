"""The whole picture on a terminal."""

from __future__ import annotations

import io

import pytest

from tests.pictures import RUNNING, fold, job, judgement, learning, overview
from trainq.cli.console import Console
from trainq.cli.overviewing import status_lines, until
from trainq.cli.rendering import columns_of
from trainq.figures import Cpu, Expected, Generation, Life, Measured, Observations, Span
from trainq.gpu import Device, Devices

OBSERVED = Observations(
    lives={"trainer": Life(session="s", restarts=2, memory_bytes=5 << 20)}, machine_at=998.0,
    cpu=Cpu(processors=2, percent=50.0, load=(1.0, 2.0, 3.0), memory_total_bytes=4 << 30,
            memory_available_bytes=1 << 30),
    gpu=Devices(devices=(Device(index=0, name="H100", utilization_percent=97, temperature_celsius=61, power_watts=412.3,
                                memory_used_bytes=3 << 30, memory_total_bytes=80 << 30),)),
    generations=(Generation(name="g", generation=1, step=0, at=900.0),),
    expected=Expected(job="train-1", ends_at=(1010.0, 1070.0)),
    measured=Measured(tokens_per_second=(1.0, 2.0), beyond_seconds=(0.0, 0.0)))


@pytest.mark.parametrize(("span", "words"), [
    (None, ""), ((1010.0, 1070.0), "in 10 s to 1 m 10 s"), ((1010.0, 1010.0), "in 10 s"), ((990.0, 1000.0), "now"),
    ((990.0, 1005.0), "in 0.0 s to 5.0 s")])
def test_moments_are_said_as_time_from_now(span: Span | None, words: str) -> None:
    assert until(span, 1000.0) == words


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


def lines(width: int) -> list[str]:
    out = Terminal()
    of = overview(running=[RUNNING], waiting=[job(id="train-2", name="a long name " * 9)],
                  planned_tokens={"train-2": 10}, marks=("a batch was left out",),
                  learning=learning(judgement=judgement(regressed=True), proposal="g000004-s00000040"))
    return status_lines(fold(of, dead="watcher", observed=OBSERVED),
                        Console(out, out, json=False, environment={"COLUMNS": str(width), "NO_COLOR": "1"}))


def test_all_of_it_is_shown() -> None:
    text = "\n".join(lines(200))
    for words in ("training train-1", "! the watcher ended without a word: supervisorctl start watcher",
                  "! g is marked: a batch was left out", "in 10 s to 1 m 10 s", "1 m 40 s ago",
                  "50 % of 2 processors, load 1.0, 1.0 GiB of 4.0 GiB memory available",
                  "H100, 97 %, 3.0 GiB of 80.0 GiB used, 61 °C, 412 W", "5.0 MiB",
                  "g000002-s00000020, first 5 m 0 s ago", "arithmetic 2, syllo 1",
                  "g000004-s00000040: trainq promote makes it champion",
                  "g000005-s00000050 30 s ago: keep, significantly worse; held-out: the gain is no larger"):
        assert words in text, words


def test_tables_fit() -> None:
    shown = lines(80)
    tables = [line for line in shown if line.startswith(("train-2", "trainer", "service", "next"))]
    assert len(tables) == 4
    assert all(columns_of(line) <= 80 for line in tables)
