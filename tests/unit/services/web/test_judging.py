"""What the command says of a file becomes an answer; and the process that judges is ended when its time is over."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from starlette.requests import Request

from services.web import judging, problems
from services.web.judging import ValidateQuery
from services.web.operations import Call
from services.web.problems import RequestError
from services.web.sites import Site
from trainq.clock import SystemClock
from trainq.config import DiskSettings, Home, Settings
from trainq.errors import TrainqError
from trainq.logs import EventLog


@pytest.mark.parametrize(("said", "status"), [
    ({"files": [{"file": "/dev/fd/9", "accepted": False, "error": {"code": "input", "message": "m", "mend": ""}}]},
     422),
    ({"files": [], "error": {"code": "storage_full", "message": "m", "mend": ""}}, 507),
    ({"error": {"code": "configuration", "message": "m", "mend": "", "problems": []}}, 500), ({"v": 1}, 500)])
def test_what_goes_wrong_keeps_its_code(said: dict[str, Any], status: int) -> None:
    with pytest.raises(TrainqError) as raised:
        judging._judged("a.jsonl", msgspec.json.encode(said))
    assert problems.of_error(raised.value).status_code == status
    assert raised.value.code in (said.get("error", {}).get("code"), "input", "internal")
    assert "/dev/fd" not in str(raised.value)


def test_a_process_that_was_killed_says_nothing() -> None:
    with pytest.raises(TrainqError, match="without an answer"):
        judging._judged("a.jsonl", b"")


@pytest.mark.slow
def test_what_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "LIMIT_SECONDS", 0.0)
    settings = Settings(disk=DiskSettings(hold_gib=0.0))
    site = Site(Home(tmp_path), settings, EventLog(logging.getLogger("judging")), SystemClock(), "token")

    async def story() -> None:
        bodies = iter([{"type": "http.request", "body": b'{"text": "a"}\n', "more_body": False}])

        async def receive() -> Any:
            return next(bodies, None) or await asyncio.Event().wait()

        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
        with pytest.raises(RequestError) as raised:
            await judging.validate(Call(site, request, ValidateQuery(name="a"), None))
        assert raised.value.status == 413

    try:
        asyncio.run(story())
    finally:
        site.close()
    assert not [child for child in psutil.Process().children() if "trainq.liveness" in " ".join(child.cmdline())]
