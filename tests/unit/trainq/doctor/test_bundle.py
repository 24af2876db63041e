"""The report: what is in it, what is not, and how large it may be."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from trainq import supervising
from trainq.cli import main
from trainq.config import Home, Settings
from trainq.doctor import CHECKS, bundle, examine
from trainq.doctor.findings import Finding, Subject, fail
from trainq.messages import Lifecycle, Overview, ServiceView
from trainq.picture import SERVICES
from trainq.supervising import Program

SECRET = "correct-horse-battery"  # stands for one
ROWS = "my private words"
MARKER = "quagmire"


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A home with secrets and rows in every place where they may lie, and nobody who runs."""
    home, root = Home(tmp_path / "home"), tmp_path / "checkout"
    monkeypatch.setenv("TRAINQ_HOME", str(home.root))
    monkeypatch.setattr("trainq.doctor.findings.SOCKET", Path("supervisor", supervising.SOCKET.name))
    for folder in (*home.folders(), home.snapshots, root / "supervisor"):
        folder.mkdir(mode=0o700, parents=True)
    (home.run / "token").write_text(SECRET)
    for folder in (home.inbox, home.rejected, home.data, home.cache):
        (folder / "file.jsonl").write_text(f'{{"text": "{ROWS}"}}\n')
    home.status_file.write_bytes(orjson.dumps({
        "why": "training", "waiting": [{"id": "train-1", "name": "file.jsonl", "reason": f"the role '{ROWS}' is bad"}],
        "destination": f"s3://me:{SECRET}-2@bucket"}))
    lines = [{"event": "attempt_failed", "job": "train-1", "reason": f"trained in [[ ]]: {ROWS}", "tokens": 4},
             {"event": "copy_failed", "error": f"https://me:{SECRET}@place/x", "password": SECRET}]
    for name in ("trainer", "preparer", "broker"):
        (home.logs / f"{name}.log").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines)
                                                + f"ValueError: '{ROWS}' with {SECRET}\n".encode() + b"\xff\n")
    (root / "supervisor" / "trainer.log").write_text(f"bad key {SECRET} in '{ROWS}'\n")
    return Subject({"TRAINQ_HOME": str(home.root), "TRAINQ_DATA_TOKEN": SECRET, "MY_PASSWORD": SECRET}, root, home,
                   Settings())


def unpacked(subject: Subject, findings: Sequence[Finding] = ()) -> dict[str, bytes]:
    stream = io.BytesIO()
    bundle.write(stream, subject, findings or [fail("supervisord", f"it says '{ROWS}' and {SECRET}", "look")])
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        found = {}
        for member in archive:
            inside = archive.extractfile(member)
            assert inside is not None
            assert member.name.startswith("trainq-bundle/")
            found[member.name.removeprefix("trainq-bundle/")] = inside.read()
        return found


def test_neither_secrets_nor_rows_are_in_it(subject: Subject) -> None:
    found = unpacked(subject)
    assert {"doctor.json", "config.json", "status.json", "versions.json", "machine.json", "processes.json", "home.json",
            "README.txt", "logs/trainer.log", "logs/preparer.log", "supervisor/trainer.log"} <= set(found)
    for name, content in found.items():
        assert SECRET.encode() not in content, name
        assert ROWS.encode() not in content, name
    assert b'"tokens":4' in found["logs/trainer.log"], "a number is no secret"
    assert b"copy_failed" in found["logs/trainer.log"]
    assert b"file.jsonl" in found["status.json"]
    assert b"file.jsonl" not in found["home.json"], "what lies in folders is counted only"
    assert json.loads(found["home.json"])["inbox"]["entries"] == 2


def test_no_words_of_a_row_are_in_it_whoever_quotes_them(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "ANSWER_SECONDS", 0.05)  # there is no broker to be asked for its events
    quoting = f"the role '{MARKER}' is bad, trained in [[ ]]: {MARKER}"
    for name in (*SERVICES, "other"):
        (subject.home.logs / f"{name}.log").write_bytes(orjson.dumps(
            {"at": datetime.now(UTC).isoformat(), "level": "error", "event": "failed", "error": quoting,
             "bad_rows": [MARKER], "traceback": f"ValueError: b'{MARKER}\n{MARKER}'"}) + f"\n{quoting}\n".encode())
        (subject.supervisor_socket.parent / f"{name}.log").write_text(f"cut '{MARKER}\n{quoting}\n")
    (subject.supervisor_socket.parent / "web.log").write_text(f"ValueError: b'{MARKER}'\n")
    subject.home.status_file.write_bytes(orjson.dumps({"why": quoting, "reasons": {MARKER: 1}}))
    programs = [Program(name=name, state="FATAL", pid=0, started_at=1.0, stopped_at=0.0, exit_code=1,
                        spawn_error=quoting if name == "broker" else "") for name in SERVICES]
    services = [ServiceView(name=name, session="s", pid=os.getpid(), state=Lifecycle.ERROR, detail=quoting,
                            started_at=1.0, age_seconds=0.0) for name in SERVICES]
    overview = Overview(journal_id="j", seq=0, at=time.time(), paused_reason=quoting, counts={}, running=[], waiting=[],
                        waiting_reason=quoting, generation=0, checkpoint="", step=0, services=services,
                        pause=quoting, drain=quoting, stop=quoting)
    subject.__dict__.update(_programs=programs, _overview=overview)
    checks = [each for each in CHECKS if each.name in ("supervisord", "services", "logs", "broker", "locks")]
    findings = examine(subject, checks)
    assert {each.name for each in findings if MARKER in each.found} >= {"supervisord", "services", "orders", "logs"}, \
        "it is in what is to be redacted"
    found = unpacked(subject, findings)
    assert {"doctor.json", "supervisord.json", "broker.json", "status.json", "supervisor/web.log"} <= set(found)
    assert [name for name, content in found.items() if MARKER.encode() in content] == []


def test_a_key_in_the_lines_of_a_log(subject: Subject) -> None:
    (subject.home.logs / "trainer.log").write_text(
        f'{{"event": "begun"}}\nkey: -----BEGIN PRIVATE KEY-----\n{MARKER}\n12345\n"{MARKER}"\n'
        '-----END PRIVATE KEY-----\nnext\n{"event": "ended"}\n')
    assert unpacked(subject)["logs/trainer.log"] == (
        b'{"event":"begun"}\nkey: <redacted>\nnext\n{"event":"ended"}\n')


def test_variables_of_the_environment_that_are_keys(subject: Subject) -> None:
    subject.environment = {**subject.environment, "TRAINQ_SIGNING_KEY": MARKER, "TRAINQ_SHOWN": "this"}
    environment = json.loads(unpacked(subject)["config.json"])["environment"]
    assert (environment["TRAINQ_SIGNING_KEY"], environment["TRAINQ_SHOWN"]) == ("<redacted>", "this")


def test_what_cannot_be_had_is_said(subject: Subject) -> None:
    subject.home.status_file.write_text("{")
    said = unpacked(subject)["README.txt"].decode()
    for name in ("broker.json", "events.jsonl", "supervisord.json", "status.json"):
        assert f"- {name}: " in said


def test_it_has_a_limit(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    (subject.home.logs / "trainer.log").write_bytes(b"x" * 100 + b"\n" + b"a line of the log\n" * 100_000)
    found = unpacked(subject)
    assert len(found["logs/trainer.log"]) <= bundle.LOG_TAIL_BYTES
    monkeypatch.setattr(bundle, "MAX_BYTES", 20_000)
    found = unpacked(subject)
    assert "logs/trainer.log" not in found
    assert "logs/trainer.log: " in found["README.txt"].decode()
    assert sum(map(len, found.values())) < 25_000


def test_logs_that_have_gone_round_and_the_newest_attempts_are_in_it(subject: Subject) -> None:
    (subject.home.logs / "trainer.log.1").write_text(f"earlier '{ROWS}'\n")
    (subject.home.logs / "trainer.log.2").write_text("too early\n")
    jobs = subject.home.logs / "jobs"
    jobs.mkdir()
    for number in range(bundle.ATTEMPTS + 2):
        for end in ("first.log", "last.log", "last.log.1"):
            path = jobs / f"train-{number}.1.trainer.{end}"
            path.write_text(f"begun '{ROWS}'\n" * (10_000 if number == 5 else 10))
            os.utime(path, (number, number))
    (jobs / "rubbish").touch()
    os.mkfifo(jobs / "train-99.1.trainer.first.log")
    found = unpacked(subject)
    assert found["logs/trainer.log.1"] == b"earlier <row>\n"
    assert "logs/trainer.log.2" not in found
    attempts = {name: content for name, content in found.items() if name.startswith("logs/jobs/")}
    assert set(attempts) == {f"logs/jobs/train-{number}.1.trainer.{end}" for number in range(2, bundle.ATTEMPTS + 2)
                             for end in ("first.log", "last.log", "last.log.1")}
    for content in attempts.values():
        assert 0 < len(content) <= bundle.ATTEMPT_TAIL_BYTES
        assert ROWS.encode() not in content


def test_the_command_writes_one_file_for_the_user_alone_and_overwrites_none(
        subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.tar.gz"
    assert main(["bundle", "-o", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["size_bytes"]) == (str(path), path.stat().st_size)
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    assert main(["bundle", "-o", str(path)]) == 64
    assert "is there already" in capsys.readouterr().err
    assert path.read_bytes() == content
    dangling = tmp_path / "link.tar.gz"
    dangling.symlink_to("nowhere")
    assert main(["bundle", "-o", str(dangling)]) == 64
    assert main(["bundle", "-o", str(tmp_path / "no" / "folder.tar.gz")]) == 64
    assert subject.home.root.exists()


def test_a_home_of_rubbish(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.logs.mkdir(parents=True)
    os.mkfifo(home.logs / "trainer.log")
    os.mkfifo(home.root / "bad\udcff")
    home.status_file.mkdir()
    found = unpacked(Subject({}, tmp_path, home, Settings()))
    assert found["logs/trainer.log"] == b""
