"""The watcher against a real broker: what lies in the inbox or in .claimed/ never stops it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installations import wait_for
from places import Place, place_with_broker

pytestmark = pytest.mark.slow

QUICK = {"TRAINQ_WATCHER_SETTLE_SECONDS": "0.3", "TRAINQ_WATCHER_SWEEP_SECONDS": "1",
         "TRAINQ_BROKER_HEARTBEAT_SECONDS": "1"}


def row(word: str) -> str:
    return f'{{"prompt": "{word}?", "completion": "{word}."}}\n'


@pytest.fixture
def running() -> Iterator[Place]:
    """The broker and the watcher alone: what becomes of the jobs is not of interest here."""
    with place_with_broker(**QUICK) as place:
        place.start("watcher")
        log = place.home.logs / "watcher.log"
        wait_for(lambda: log.exists() and "RUNNING" in log.read_text(), "the watcher's first turn")
        yield place


def names(running: Place) -> set[str]:
    return {job["name"] for job in running.jobs()}


def refusals(running: Place) -> list[dict[str, Any]]:
    return [event for event in running.events() if event["type"] == "FileRefused"]


def leave_claim(running: Place, name: str, content: str, id_: str = "") -> str:
    """What a dead watcher would have left; the claim's id."""
    id_ = id_ or uuid.uuid4().hex
    folder = running.home.claimed / id_
    folder.mkdir()
    (folder / name).write_text(content)
    return id_


def nothing_claimed(running: Place) -> bool:
    return list(running.home.claimed.iterdir()) == []


def test_a_name_that_is_no_utf8_is_taken_and_so_is_what_comes_later(running: Place) -> None:
    for number in range(2):
        path = os.fsencode(running.home.inbox) + b"/caf\xe9%d.jsonl" % number
        with open(path, "w") as stream:  # noqa: PTH123  # a name in bytes
            stream.write(row(f"cafe {number}"))
        (running.home.inbox / f"later-{number}.jsonl").write_text(row(f"later {number}"))
        expected = {f"caf\\xe9{number}.jsonl", f"later-{number}.jsonl"}
        wait_for(lambda expected=expected: expected <= names(running), "both are taken")
    wait_for(lambda: nothing_claimed(running), "the claims are gone")


def test_what_cannot_be_claimed_stops_no_other(running: Place) -> None:
    room = 4095 - len(os.fsencode(running.home.inbox)) - 1
    folder = running.home.inbox
    while room > 255:
        part = "d" * min(250, room - 10)
        folder, room = folder / part, room - len(part) - 1
    folder.mkdir(parents=True)
    stuck = folder / ("n" * (room - len(".jsonl")) + ".jsonl")
    stuck.write_text(row("stuck"))
    wait_for(lambda: "cannot_be_claimed" in (running.home.logs / "watcher.log").read_text(), "it is said")
    (running.home.inbox / "good.jsonl").write_text(row("good"))
    wait_for(lambda: "good.jsonl" in names(running), "the other one is taken")
    assert stuck.exists()
    wait_for(lambda: nothing_claimed(running), "no empty claims are left")
    assert (running.home.logs / "watcher.log").read_text().count("cannot_be_claimed") == 1


def test_a_refusal_waits_for_the_broker_and_is_reported_once(running: Place) -> None:
    running.stop("broker")
    (running.home.inbox / "notes.txt").write_text("hello")
    wait_for(lambda: [path for path in running.home.rejected.iterdir() if path.name.endswith("-notes.txt")],
             "it is set aside without the broker")
    running.stop("watcher", signal.SIGKILL)
    running.start("watcher")
    running.start("broker")
    wait_for(lambda: refusals(running), "the next life reports it")
    wait_for(lambda: nothing_claimed(running), "the claim goes last")
    (running.home.inbox / "good.jsonl").write_text(row("good"))
    wait_for(lambda: "good.jsonl" in names(running), "it goes on")
    assert len(refusals(running)) == 1


def test_leftovers_are_judged_and_never_deleted(running: Place, tmp_path: Path) -> None:
    running.stop("watcher")
    secret = tmp_path / "outside.jsonl"
    secret.write_text(row("outside"))
    folder = running.home.claimed / uuid.uuid4().hex
    folder.mkdir()
    (folder / "link.jsonl").symlink_to(secret)
    leave_claim(running, "table.csv", "a,b")
    leave_claim(running, "good.jsonl", row("good"))
    (running.home.claimed / "stray").write_text("stray")
    running.start("watcher")
    wait_for(lambda: len(refusals(running)) == 3, "three are refused")
    wait_for(lambda: nothing_claimed(running), "nothing is left")
    assert names(running) == {"good.jsonl"}
    kept = {path.name.partition("-")[2]: path for path in running.home.rejected.iterdir()
            if not path.name.endswith(".report.json")}
    assert set(kept) == {"link.jsonl", "table.csv", "stray"}
    assert kept["link.jsonl"].is_symlink()
    assert secret.read_text() == row("outside")


def test_a_file_that_changed_after_its_receipt_is_taken_again(running: Place) -> None:
    running.stop("watcher")
    id_ = leave_claim(running, "a.jsonl", row("first"))
    running.start("watcher")
    wait_for(lambda: len(running.jobs()) == 1 and nothing_claimed(running), "the first content is a job")
    running.stop("watcher")
    leave_claim(running, "a.jsonl", row("first") + row("second"), id_)
    running.start("watcher")
    wait_for(lambda: len(running.jobs()) == 2 and nothing_claimed(running), "what it holds now is one too")
    assert refusals(running) == []


def test_more_files_than_a_turn_takes_are_all_taken(running: Place) -> None:
    for number in range(150):
        (running.home.inbox / f"{number}.jsonl").write_text(row(str(number)))
    wait_for(lambda: len(running.jobs()) >= 100, "the first hundred")
    wait_for(lambda: nothing_claimed(running) and not list(running.home.inbox.glob("*.jsonl")), "all of them")
    assert "turn_failed" not in (running.home.logs / "watcher.log").read_text()
