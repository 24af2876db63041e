"""The whole examination: whatever is wrong, it comes to its end, changes nothing, and says so."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from trainq import config, doctor, supervising
from trainq.cli import main
from trainq.cli.console import Console
from trainq.cli.doctoring import finding_lines
from trainq.config import Home, Settings
from trainq.doctor import Check, Finding, Subject, Verdict, examine, loglines, subject_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a checkout whose supervisord does not run, whoever's does here."""
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("trainq.doctor.findings.SOCKET", Path("not-here", supervising.SOCKET.name))
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


def test_a_check_that_raises_or_hangs_hinders_no_other(tmp_path: Path) -> None:
    let_go = threading.Event()

    def raises(_subject: Subject) -> Iterator[Finding]:
        yield doctor.findings.ok("raises", "so far")
        raise RuntimeError("a bug")

    def hangs(_subject: Subject) -> Iterator[Finding]:
        let_go.wait(60)
        yield from ()

    subject = Subject({}, tmp_path, Home(tmp_path), Settings())
    found = examine(subject, [Check("raises", raises), Check("hangs", hangs), Check("well", lambda _: [])],
                    limit_seconds=0.05)
    let_go.set()
    assert [(each.name, each.verdict) for each in found] == [
        ("raises", Verdict.OK), ("raises", Verdict.WARN), ("hangs", Verdict.FAIL)]
    assert "a bug" in found[1].found
    assert "within 0.05 s" in found[2].found


def garbage(home: Path) -> None:
    for name in ("journal.db", "status.json", "inbox"):
        (home / name).mkdir()
    os.mkfifo(home / "run")
    (home / "logs").mkdir()
    os.mkfifo(home / "logs" / "trainer.log")
    (home / "logs" / "broker.log").write_bytes(b'\xff\xfe{"level":"error"}\n[1]\n{"level":"error","at":7}\n' * 50)
    (home / "logs" / "loop.log").symlink_to("loop.log")
    (home / "control").touch()
    (home / "checkpoints").symlink_to("/nowhere")
    (home / "bad\udcff name").touch()


def nothing(_home: Path) -> None:
    pass


def rubbish_in_files(home: Path) -> None:
    for folder in Home(home).folders():
        folder.mkdir(mode=0o700, exist_ok=True)
    for path in (Home(home).journal, Home(home).status_file, Home(home).run / "broker.lock",
                 Home(home).request_socket, Home(home).logs / "broker.log"):
        path.write_bytes(os.urandom(2000))


@pytest.mark.parametrize("make", [nothing, garbage, rubbish_in_files])
def test_with_everything_down_and_rubbish_in_the_home(
        home: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]) -> None:
    make(home)
    before = tree(home)
    code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == (0 if document["ok"] else 1)
    assert document["ok"] == (make is nothing)
    assert {check["name"] for check in document["checks"]} >= {"python", "packages", "configuration", "home", "disk"}
    assert not [check for check in document["checks"] if check["verdict"] == "fail" and not check["mend"]]
    assert not [check for check in document["checks"] if "could not be looked at" in check["found"]]
    assert tree(home) == before, "it writes nothing"


def test_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.chmod(0o755)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert f"mend: chmod 700 {home}" in said
    assert "must be mended" in said


def test_a_broken_configuration_is_named_whole_and_the_rest_is_looked_at(
        home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[train]\nepochs = -1\n[brokr]\n")
    monkeypatch.setenv("TRAINQ_CONFIG", str(tmp_path / "x.toml"))
    subject = subject_of(os.environ, config.project_root())
    assert subject.home.root == home
    found = [each for each in examine(subject, doctor.CHECKS[:6]) if each.verdict is Verdict.FAIL]
    assert {each.name for each in found} == {"configuration"}
    assert any("train.epochs" in each.found for each in found)
    assert any("did you mean broker?" in each.mend for each in found)


def test_lines_fit_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    import sys

    console = Console(sys.stdout, sys.stderr, json=False, environment={"COLUMNS": "50", "NO_COLOR": "1"})
    lines = finding_lines(doctor.findings.fail("file system", "a\x1b[31m long story " * 9, "mend it " * 20), console)
    assert all(len(line) <= 50 for line in lines)
    assert "\x1b" not in "".join(lines)
    capsys.readouterr()


def test_errors_in_logs_of_the_last_day(tmp_path: Path) -> None:
    subject = Subject({}, tmp_path, Home(tmp_path), Settings())
    subject.home.logs.mkdir()
    now = "2999-01-01T00:00:00.000+00:00"
    lines = [{"at": "2020-01-01T00:00:00.000+00:00", "level": "error", "event": "old"},
             {"at": now, "level": "info", "event": "fine"},
             {"at": now, "level": "error", "event": "turn_failed", "error": "no room left"}]
    (subject.home.logs / "trainer.log").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines) + b"Trace\n")
    (subject.home.logs / "broker.log").write_bytes(orjson.dumps(lines[0]) + b"\n")
    found = list(loglines.recent_errors(subject))
    assert [each.verdict for each in found] == [Verdict.WARN, Verdict.OK]
    assert "trainer: 1 errors in the last day" in found[0].found
    assert "turn_failed: no room left" in found[0].found
    assert found[0].mend == "trainq logs trainer"


def test_how_far_back_the_logs_were_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject({}, tmp_path, Home(tmp_path), Settings())
    subject.home.logs.mkdir()
    hours = [datetime.now(UTC) - timedelta(hours=ago) for ago in (30, 3, 2, 1)]
    old, third, second, last = (orjson.dumps({"at": at.isoformat(), "level": "error" if at == hours[1] else "info",
                                              "event": "e"}) + b"\n" for at in hours)
    log = subject.home.logs / "trainer.log"
    when = hours[2].isoformat(timespec="seconds")
    monkeypatch.setattr(loglines, "TAIL_BYTES", len(second + last) + 5)
    monkeypatch.setattr(loglines.tail, "__defaults__", (len(second + last) + 5,))
    log.write_bytes(old + third + second + last)
    (found,) = loglines.recent_errors(subject)
    assert found.found == f"without an error: trainer since {when}, the oldest line read"
    # Full, and renamed, just now: it is read on in what it was renamed to.
    log.with_name("trainer.log.1").write_bytes(old + third + second)
    log.write_bytes(last)
    (found,) = loglines.recent_errors(subject)
    assert found.found == f"without an error: trainer since {when}, the oldest line read"
    log.write_bytes(b"")
    (found,) = loglines.recent_errors(subject)
    assert found.found.startswith("trainer: 1 errors since ")
    log.write_bytes(old + last)
    (found,) = loglines.recent_errors(subject)
    assert found.found == "without an error: 1 in the last day"


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"line of a log\n" * 1000)
    assert loglines.tail(tmp_path / "x.log", 50) == b"line of a log\n" * 3
    assert loglines.last_line(tmp_path / "x.log") == "line of a log"
    assert loglines.tail(tmp_path / "none.log") == b""
