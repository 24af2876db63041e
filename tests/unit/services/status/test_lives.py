"""Restarts are counted, and the last error is the last that was logged."""

from __future__ import annotations

from pathlib import Path

from services.status.lives import Lives
from trainq import logs
from trainq.figures import Life, ServiceStatus


def status(name: str = "trainer", state: str = "RUNNING") -> ServiceStatus:
    return ServiceStatus(name=name, pid=1, state=state, detail="", uptime_seconds=1.0, age_seconds=1.0)


def test_a_new_life_is_counted_once(tmp_path: Path) -> None:
    lives = Lives(tmp_path, {})
    assert lives.note([status()], {"trainer": "a"})
    assert not lives.note([status()], {"trainer": "a"})
    assert lives.lives["trainer"].restarts == 0, "the first that is seen is no restart"
    assert lives.note([status()], {"trainer": "b"})
    assert lives.lives["trainer"] == Life(session="b", restarts=1)
    assert not lives.note([status(state="ABSENT")], {})


def test_a_next_life_of_the_status_goes_on_counting(tmp_path: Path) -> None:
    lives = Lives(tmp_path, {"trainer": Life(session="a", restarts=3)})
    assert not lives.note([status()], {"trainer": "a"})
    lives.note([status()], {"trainer": "c"})
    assert lives.lives["trainer"].restarts == 4


def test_memory_is_told_to_the_mebibyte(tmp_path: Path) -> None:
    lives = Lives(tmp_path, {})
    lives.measured({"trainer": (5 << 20) + 1})
    assert lives.lives["trainer"].memory_bytes == 6 << 20
    lives.note([status()], {"trainer": "b"})
    assert lives.lives["trainer"].memory_bytes is None


def test_the_last_error_of_a_log_is_found(tmp_path: Path) -> None:
    lives = Lives(tmp_path, {})
    lives.read_logs(["trainer", "watcher"])
    assert lives.lives == {}
    log = logs.open_log("trainer", tmp_path)
    log.error("turn_failed", error="no room")
    log.info("state_changed", state="RUNNING")
    log.warning("other", text='"level":"error"')
    lives.read_logs(["trainer"])
    found = lives.lives["trainer"].last_error
    assert found is not None
    assert found.text == "turn_failed: no room"
    try:
        raise ValueError("a bug")
    except ValueError:
        log.error("ended_by_bug")
    lives.read_logs(["trainer"])
    newer = lives.lives["trainer"].last_error
    assert newer is not None
    assert (newer.text, newer.at >= found.at) == ("ended_by_bug: ValueError: a bug", True)
    log.close()


def test_torn_lines_and_others_forms_disturb_nobody(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    path.write_bytes(b'{"level":"error"\n["level":"error"]\n{"level":"error","event":"x","at":7}\n'
                     b'plain "level":"error"\n'
                     b'{"level":"error","at":"2026-01-01T00:00:00+00:00","event":"torn"')
    lives = Lives(tmp_path, {})
    lives.read_logs(["trainer"])
    assert lives.lives == {}
    with path.open("ab") as stream:
        stream.write(b"}\n")
    lives.read_logs(["trainer"])
    found = lives.lives["trainer"].last_error
    assert found is not None
    assert found.text == "torn"
    path.write_bytes(b'{"level":"error","at":"2026-01-02T00:00:00+00:00","event":"rotated"}\n')
    lives.read_logs(["trainer"])
    assert (lives.lives["trainer"].last_error or found).text == "rotated"
