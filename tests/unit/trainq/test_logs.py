"""Logs are JSON lines with an event, its facts, and a traceback where there is an error."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from trainq import logs


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logs.EventLog]:
    opened = logs.open_log("broker", tmp_path)
    yield opened
    opened.close()


def lines(folder: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (folder / "broker.log").read_bytes().splitlines()]


def test_a_line_is_an_event_with_facts(log: logs.EventLog, tmp_path: Path) -> None:
    log.info("job_leased", job="train-1", seconds=1.5, path=tmp_path)
    log.debug("not_at_this_level")
    (line,) = lines(tmp_path)
    assert (line["event"], line["service"], line["level"], line["job"]) == ("job_leased", "broker", "info", "train-1")
    assert line["path"] == str(tmp_path)


def test_an_error_carries_its_traceback(log: logs.EventLog, tmp_path: Path) -> None:
    try:
        raise ZeroDivisionError("boom")
    except ZeroDivisionError:
        log.error("turn_failed")
    log.error("without_one")
    assert "boom" in str(lines(tmp_path)[0]["traceback"])
    assert "traceback" not in lines(tmp_path)[1]


def test_hostile_names_stay_in_their_line(log: logs.EventLog, tmp_path: Path) -> None:
    log.info("claimed", name="a\n{}\x1b[2J\udce9")
    assert len((tmp_path / "broker.log").read_bytes().splitlines()) == 1
