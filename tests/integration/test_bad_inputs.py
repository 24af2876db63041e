"""Everything bad at once in one real inbox, before a broker, a watcher and a preparer: each gets what the table says.

The processes' peak memory is measured too: neither the long line nor the bomb is ever held whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from hostile_inputs import CONTENTS, DROPPED
from installations import wait_for
from places import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MOST_MIB = 400


def peak_mib(pid: int) -> float:
    """The most memory that a living process has held so far (VmHWM, proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.fixture
def running(broker: Place) -> Place:
    broker.environment |= {"TRAINQ_WATCHER_SETTLE_SECONDS": "0", "TRAINQ_WATCHER_SWEEP_SECONDS": "1"}
    return broker


def drop_everything(place: Place) -> dict[str, tuple[str, str]]:
    """Fill the inbox; what each name that is shown becomes, and what is said of it."""
    expected: dict[str, tuple[str, str]] = {}
    for number, content in enumerate(CONTENTS):
        name = f"content-{number}{content.suffix}"
        (place.home.inbox / name).write_bytes(content.make())
        expected[name] = (content.becomes, content.says)
    for entry in DROPPED:
        entry.make(os.fsencode(place.home.inbox) + b"/" + entry.name)
        expected[entry.name.decode("utf-8", "backslashreplace")] = (entry.becomes, entry.says)
    return expected


def events(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.run("events", "--json")[0].splitlines()]


def said_of_rejected(place: Place, job: str) -> str:
    report = json.loads((place.home.rejected / f"{job}.report.json").read_text())
    if not report["bad_rows"]:
        return str(report["reason"])
    row = report["bad_rows"][0]
    field = f"{row['field']}: " if row["field"] else ""
    return f"{row['line']}:{row['column']} {field}{row['reason']} ({row['mend']})"


def observed(place: Place, journal: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    names = {event["job"]: event["body"]["name"] for event in journal if event["type"] == "JobSubmitted"}
    found: dict[str, tuple[str, str]] = {}
    for event in journal:
        match event["type"]:
            case "FileRefused":
                found[event["body"]["name"]] = ("refused", event["body"]["reason"])
            case "JobPrepared":
                found[names[event["job"]]] = ("trained", "")
            case "JobRejected":
                found[names[event["job"]]] = ("rejected", said_of_rejected(place, event["job"]))
    return found


def test_everything_bad_gets_what_the_table_says(running: Place) -> None:
    expected = drop_everything(running)
    ignored = {name for name, (becomes, _) in expected.items() if becomes == "ignored"}
    running.start("watcher")
    running.start("preparer")
    wait_for(lambda: len(observed(running, events(running))) >= len(expected) - len(ignored), "each has its end", 90)
    found = observed(running, events(running))
    assert found == {name: end for name, end in expected.items() if name not in ignored}

    wait_for(lambda: list(running.home.claimed.iterdir()) == [], "nothing stays claimed")
    left = {path.name for path in running.home.inbox.iterdir()} - {running.home.claimed.name}
    assert left == ignored
    refused = [name for name, (becomes, _) in expected.items() if becomes == "refused"]
    kept = [path for path in running.home.rejected.iterdir() if not path.name.endswith((".json", ".rejected.jsonl"))]
    assert len([path for path in kept if not path.name.startswith("train-")]) == len(refused)
    outside = running.home.root / "outside.jsonl"
    assert outside.exists()  # what a link led to was not touched
    assert (running.home.root / "linked.jsonl").stat().st_nlink == 1
    for log in running.home.logs.glob("*.log"):
        text = log.read_text()
        assert all(line.isprintable() for line in text.splitlines()), log
        assert "turn_failed" not in text
        assert "work_failed" not in text
    for words in (("list", "--all"), ("events",)):
        out, err = running.run(*words)
        assert all(char.isprintable() for line in (out + err).split("\n") for char in line), words
    for process in psutil.Process().children():
        assert peak_mib(process.pid) < MOST_MIB, process.cmdline()
