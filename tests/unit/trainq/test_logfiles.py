"""Log files: the newest lines, rotated ones, and those that come."""

from __future__ import annotations

import json
from pathlib import Path

from trainq.logfiles import LogLine, Tail, logs_in, newest


def everything(_line: bytes) -> bool:
    return True


def line(second: int, **fact: object) -> str:
    record = {"at": f"2026-07-30T10:00:{second:02}.000+00:00", "level": "info", "service": "broker", "pid": 1,
              "event": f"event-{second}", **fact}
    return json.dumps(record, separators=(",", ":")) + "\n"


def events(lines: list[LogLine]) -> list[str]:
    return [line.record["event"] if line.record else line.raw for line in lines]


def ends(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in logs_in(folder, "*.log")}


def test_the_newest_lines_of_all_logs_by_time(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(line(1) + line(4))
    (tmp_path / "b.log").write_text(line(2) + line(3) + line(5))
    assert events(newest(ends(tmp_path), 4, everything)) == ["event-2", "event-3", "event-4", "event-5"]
    assert newest(ends(tmp_path), 0, everything) == []


def test_rotated_files_are_read_as_far_as_needed(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(line(9))
    (tmp_path / "a.log.1").write_text(line(7) + line(8))
    (tmp_path / "a.log.2").write_text(line(5) + line(6))
    (tmp_path / "a.log.10").write_text(line(1))
    (tmp_path / "a.log.bak").write_text(line(2))
    assert events(newest(ends(tmp_path), 4, everything)) == ["event-6", "event-7", "event-8", "event-9"]
    assert events(newest(ends(tmp_path), 99, everything))[0] == "event-1"


def test_what_is_no_record_stays_with_the_line_before_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(line(1).encode() + b"Traceback\xff:\n" + line(5).encode())
    (tmp_path / "b.log").write_text(line(3))
    assert events(newest(ends(tmp_path), 9, everything)) == ["event-1", r"Traceback\xff:", "event-3", "event-5"]


def test_a_tail_gives_whole_lines_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(line(1))
    with Tail(path, everything) as tail:
        assert tail.read() == []
        with path.open("a") as stream:
            stream.write(line(2) + line(3)[:10])
            stream.flush()
            assert events(tail.read()) == ["event-2"]
            stream.write(line(3)[10:])
        assert events(tail.read()) == ["event-3"]


def test_a_tail_follows_rotation_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(line(1))
    with Tail(path, everything) as tail:
        with path.open("a") as stream:
            stream.write(line(2))
        path.rename(tmp_path / "a.log.1")
        assert events(tail.read()) == ["event-2"]
        path.write_text(line(3))
        assert events(tail.read()) == ["event-3"]


def test_lines_before_a_tail_s_start_are_not_its(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(line(1))
    with Tail(path, everything) as tail:
        with path.open("a") as stream:
            stream.write(line(2))
        assert events(newest({path: tail.position}, 9, everything)) == ["event-1"]
        assert events(tail.read()) == ["event-2"]
