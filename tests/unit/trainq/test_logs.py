"""Logs are JSON lines with an event, its facts, and a traceback where there is an error."""

import contextlib
import resource
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


@contextlib.contextmanager
def no_file_grows_beyond(size_bytes: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell (EFBIG in place of ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broker.log").symlink_to("/dev/full")
    log = logs.open_log("broker", tmp_path)
    for number in range(1000):
        log.info("said", number=number, filler="x" * 100)
    log.close()
    said, why = capfd.readouterr()
    assert (said, why.count("\n")) == ("", 1), "once, and not a thousand times"
    assert f"{tmp_path / 'broker.log'} cannot be written: [Errno 28]" in why


def test_a_log_that_cannot_be_opened_keeps_nobody_from_starting(tmp_path: Path,
                                                                capfd: pytest.CaptureFixture[str]) -> None:
    log = logs.open_log("broker", tmp_path / "logs")
    log.info("before")
    assert "No such file" in capfd.readouterr().err
    (tmp_path / "logs").mkdir()
    log.info("after")
    log.close()
    assert [line["event"] for line in lines(tmp_path / "logs")] == ["after", "log_was_not_writable"]


def test_when_there_is_room_again_the_failure_is_said(log: logs.EventLog, tmp_path: Path) -> None:
    log.info("before")
    with no_file_grows_beyond((tmp_path / "broker.log").stat().st_size):
        log.info("first")
        log.info("second")
    log.info("after")
    said = lines(tmp_path)
    assert (said[0]["event"], said[-2]["event"]) == ("before", "after")
    assert (said[-1]["event"], said[-1]["failed_lines"], said[-1]["level"]) == ("log_was_not_writable", 2, "warning")


def test_a_rotation_on_a_full_disk_does_not_end_the_log(log: logs.EventLog, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch,
                                                        capfd: pytest.CaptureFixture[str]) -> None:
    log.close()
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 1000)
    log = logs.open_log("broker", tmp_path)
    log.info("long", filler="x" * 800)
    with no_file_grows_beyond((tmp_path / "broker.log").stat().st_size):
        log.info("short")
        log.info("rotates", filler="x" * 800)
    log.info("after")
    log.close()
    assert "after" in [line["event"] for line in lines(tmp_path)]
    assert (tmp_path / "broker.log.1").exists()
    assert capfd.readouterr().err.count("\n") == 1


def test_a_name_in_a_log_cannot_speak_to_the_terminal(log: logs.EventLog, tmp_path: Path) -> None:
    name = "a\x1b[31m\x7f\x9b2J\u202egnp\u2066\u2028\n\U000e0001é.jsonl"
    log.info("claimed", name=name)
    assert (tmp_path / "broker.log").read_text().removesuffix("\n").isprintable()
    assert lines(tmp_path)[0]["name"] == name


def test_what_others_cause_at_will_fills_no_log(log: logs.EventLog, tmp_path: Path) -> None:
    now = [0.0]
    limited = logs.Limited(log, lambda: now[0], burst=3, seconds=60.0)
    for number in range(1000):
        limited.warning("message_refused", number=number)
    limited.warning("other")
    now[0] = 61.0
    limited.warning("message_refused", number=1000)
    found = [line for line in lines(tmp_path) if line["event"] == "message_refused"]
    assert [line["number"] for line in found] == [0, 1, 2, 1000]
    assert found[-1]["left_out"] == 997
    assert "other" in [line["event"] for line in lines(tmp_path)]


def kept(folder: Path, name: str) -> list[object]:
    path = folder / "jobs" / name
    return [orjson.loads(line)["event"] for line in path.read_bytes().splitlines()] if path.exists() else []


def test_the_lines_of_an_attempt_are_kept_with_it(log: logs.EventLog, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    log.info("before")
    log.begin_attempt(tmp_path, "broker", "train-1", 1)
    log.info("one")
    log.begin_attempt(tmp_path, "broker", "train-1", 2)
    log.info("two")
    log.end_attempt()
    log.info("after")
    log.end_attempt()
    assert kept(tmp_path, "train-1.1.broker.first.log") == ["one"]
    assert kept(tmp_path, "train-1.2.broker.first.log") == ["two"]
    assert [line["event"] for line in lines(tmp_path)] == ["before", "one", "two", "after"]


def test_of_a_long_attempt_the_first_and_the_last_lines_stay(log: logs.EventLog, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    for begun in range(2):  # given back, and leased again: one file
        log.begin_attempt(tmp_path, "broker", "train-1", 1)
        for number in range(2000):
            log.info(f"{begun}-{number}", padding="x" * 100)
    stem = "train-1.1.broker"
    assert kept(tmp_path, f"{stem}.first.log")[:2] == ["0-0", "0-1"]
    assert kept(tmp_path, f"{stem}.last.log")[-1] == "1-1999"
    for path in (tmp_path / "jobs").iterdir():
        assert path.stat().st_size <= logs.ATTEMPT_BYTES + 1024
    assert len(list((tmp_path / "jobs").iterdir())) == 3


def test_a_disk_that_does_not_take_an_attempt_s_lines_ends_nothing(log: logs.EventLog, tmp_path: Path) -> None:
    log.begin_attempt(tmp_path / "nowhere", "broker", "train-1", 1)
    log.info("one")
    log.end_attempt()
    assert [line["event"] for line in lines(tmp_path)] == ["one"]
