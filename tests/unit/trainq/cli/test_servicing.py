"""``trainq services`` without a supervisord and without a broker; with both: tests/integration/test_services.py."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainq import picture, supervising
from trainq.cli import main, picturing, servicing
from trainq.errors import BrokerUnavailableError
from trainq.service.ends import Ends, Record
from trainq.supervising import Program

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        monkeypatch.setenv("TRAINQ_HOME", folder)
        monkeypatch.setattr(picturing, "ANSWER_SECONDS", 0.1)
        monkeypatch.setattr(servicing, "project_root", lambda: Path(folder))
        monkeypatch.setenv("TRAINQ_CONFIG", f"{folder}/trainq.toml")
        for name in ("run", "control"):
            Path(folder, name).mkdir()
        Path(folder, "trainq.toml").touch()
        yield Path(folder)


def program(name: str, state: str, **facts: object) -> Program:
    known = {"pid": 0, "started_at": 0.0, "stopped_at": 0.0, "exit_code": 0, "spawn_error": "", **facts}
    return Program(name=name, state=state, **known)  # type: ignore[arg-type]  # a test's own facts


@pytest.mark.parametrize("words", [["start", "broker"], ["stop", "all"], ["restart", "--profile", "minimal"]])
def test_without_supervisord_the_mend_is_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["services", *words]) == 69
    assert "supervisord does not answer" in (told := capsys.readouterr().err)
    assert "scripts/up" in told


def test_a_list_without_anybody_says_what_can_be_known(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Record(home / "run", "preparer").put(Ends(own=5, reason="exit 3"))
    assert main(["services", "list", "--json"]) == 69
    document = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in document["services"]] == list(picture.SERVICES)
    assert document["supervisord"] is False
    by_name = {each["name"]: each for each in document["services"]}
    assert by_name["broker"]["program"] is None
    assert "ended 5 times by its own doing" in by_name["preparer"]["note"]


def test_a_list_of_what_supervisord_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = [program("broker", "RUNNING", pid=1), program("trainer", "BACKOFF", spawn_error="Exited too quickly"),
            program("mine", "STOPPED")]
    monkeypatch.setattr(supervising.Supervisor, "programs", lambda _: said)
    assert main(["services", "list", "trainer", "mine", "broker", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["services"]
    assert [(each["name"], each["program"], each["note"]) for each in found] == [
        ("broker", "RUNNING", ""), ("trainer", "BACKOFF", "Exited too quickly"), ("mine", "STOPPED", "")]
    assert found[0]["memory_bytes"] > 0
    assert main(["services", "list"]) == 0
    assert "BACKOFF" in capsys.readouterr().out


def test_pause_and_resume_need_nobody(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["services", "pause", "preparer", "snapshot", "--reason", "lunch"]) == 0
    assert (home / "control" / ".pause-preparer").read_text() == "lunch\n"
    assert capsys.readouterr().out == "preparer  paused\nsnapshot  paused\n"
    assert main(["services", "pause", "preparer"]) == 0
    assert capsys.readouterr().out == "preparer  paused already\n"
    Record(home / "run", "preparer").put(Ends(own=5, reason="exit 3"))
    assert main(["services", "resume", "preparer", "watcher", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["services"] == [{"name": "watcher", "changed": False}, {"name": "preparer", "changed": True}]
    assert "trainq services restart preparer" in err
    assert not (home / "control" / ".pause-preparer").exists()
    assert (home / "control" / ".pause-snapshot").exists()


def test_the_trainer_s_pause_is_the_broker_s(
        home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def away(*_: object) -> object:
        raise BrokerUnavailableError("the broker does not answer")

    monkeypatch.setattr(servicing, "order", away)
    assert main(["services", "pause", "trainer", "preparer"]) == 69
    assert capsys.readouterr().out == "preparer  paused\n", "one that cannot be reached keeps no other"
    assert not (home / "control" / ".pause").exists()


@pytest.mark.parametrize(("words", "code", "told"), [
    (["pause", "nobody"], 66, "there are: broker, watcher"), (["pause", "broker"], 64, "trainq drain"),
    (["pause"], 64, "--profile"), (["resume", "../x"], 66, "no service"), (["list", "nobody"], 66, "no service"),
    (["pause", "--profile", "huge"], 2, "huge"), ([], 2, "ACTION"), (["sing"], 2, "sing"),
])
def test_what_makes_no_sense_is_refused(words: list[str], code: int, told: str,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["services", *words]) == code
    assert told in capsys.readouterr().err


def test_all_who_take_work_can_be_paused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicing, "order", lambda *_: type("Done", (), {"changed": True}))
    assert main(["services", "pause", "--profile", "minimal"]) == 0
    assert {path.name for path in (home / "control").iterdir()} == {".pause-watcher", ".pause-preparer"}
