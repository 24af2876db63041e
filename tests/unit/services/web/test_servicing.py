"""A restart over HTTP comes to its end whatever becomes of who asked for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.web import children, problems, servicing
from trainq.errors import TrainqError
from trainq.servicing import Steered


def test_a_restart_goes_on_when_who_waits_for_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, let, done = tmp_path / "begun", tmp_path / "let", tmp_path / "done"
    script = 'echo $$ > "$0"; while [ ! -e "$1" ]; do sleep 0.02; done; echo done > "$2"'
    monkeypatch.setattr(children, "command", lambda _code, *words: ["/bin/sh", "-c", script, *words])
    started: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)

    async def story() -> None:
        restart = asyncio.create_task(servicing._apart(str(begun), str(let), str(done)))
        async with asyncio.timeout(20):
            while not (begun.exists() and begun.read_text().strip()):
                await asyncio.sleep(0.01)
        restart.cancel()
        with pytest.raises(asyncio.CancelledError):
            await restart

    asyncio.run(story())  # its end, and that of the loop
    pid = int(begun.read_text())
    assert os.getsid(pid) == pid  # a signal to this process's group is none to it
    let.touch()
    (child,) = started
    assert (child.pid, child.wait(20), done.read_text()) == (pid, 0, "done\n")


def test_what_the_child_says_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    told = '{"steered": {"name": "x", "program": "RUNNING", "pid": 7, "done": true, "reason": ""}}'
    monkeypatch.setattr(children, "command", lambda *_: ["/bin/echo", told])
    assert servicing._restarted("x", asyncio.run(servicing._apart("run"))) == Steered(
        name="x", program="RUNNING", pid=7, done=True, reason="")


@pytest.mark.parametrize(("said", "status", "code"), [
    (b'{"error": {"code": "no_supervisor", "message": "m", "mend": ""}}', 503, "no_supervisor"),
    (b'{"error": {"code": "usage", "message": "m", "mend": ""}}', 400, "usage"), (b"", 500, "internal")])
def test_what_goes_wrong_in_the_child_keeps_its_code(said: bytes, status: int, code: str) -> None:
    with pytest.raises(TrainqError) as raised:
        servicing._restarted("x", said)
    assert (problems.of_error(raised.value).status_code, raised.value.code) == (status, code)
