"""The picture with the broker down: what status.json still says, and what is known better."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import orjson
import pytest

from tests.pictures import job, overview
from trainq import picture
from trainq.cli.console import Console
from trainq.cli.context import Context
from trainq.cli.picturing import fold, last_written
from trainq.errors import BrokerUnavailableError
from trainq.figures import Measured, Observations
from trainq.messages import Lifecycle, Overview, ServiceView

OBSERVED = Observations(machine_at=1.0, measured=Measured(tokens_per_second=(1.0, 2.0)))
UNAVAILABLE = BrokerUnavailableError("no answer")


def context_in(home: Path, err: io.StringIO) -> Context:
    console = Console(io.StringIO(), err, json=False, environment={})
    return Context(console, {"TRAINQ_HOME": str(home)})


def service(name: str, pid: int) -> ServiceView:
    return ServiceView(name=name, session="s", pid=pid, state=Lifecycle.RUNNING, detail="", started_at=1.0,
                       age_seconds=0.5)


@pytest.fixture
def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def write_picture(home: Path, *, at: float, services: list[ServiceView]) -> None:
    overview = Overview(journal_id="j", seq=9, at=at, paused_reason=None, counts={"train": {"queued": 1}}, running=[],
                        waiting=[job()], planned_tokens={"train-1": 9}, waiting_reason="", generation=0, checkpoint="",
                        step=0, services=services)
    folded = picture.fold(overview, overview_age_seconds=1.0, now_wall=at, is_alive=lambda _pid: True,
                          silent_after_seconds=10, observed=msgspec.structs.replace(OBSERVED, machine_at=at - 5))
    (home / "status.json").write_bytes(orjson.dumps(msgspec.to_builtins(folded)))


def test_the_last_picture_with_its_age_and_the_dead_as_dead(tmp_path: Path, dead_pid: int) -> None:
    write_picture(tmp_path, at=time.time() - 100,
                  services=[service("broker", dead_pid), service("trainer", os.getpid())])
    err = io.StringIO()
    sighting = last_written(context_in(tmp_path, err), UNAVAILABLE)
    assert "status.json, 1 m 40 s old" in err.getvalue()
    states = {service.name: service.state for service in sighting.picture.services}
    assert (states["broker"], states["trainer"], states["watcher"]) == ("DEAD", "RUNNING", "ABSENT")
    assert sighting.picture.why.startswith("the broker does not answer")
    assert not sighting.picture.training
    ages = {service.name: service.age_seconds for service in sighting.picture.services}
    assert ages["trainer"] is not None
    assert 100 <= ages["trainer"] < 130
    assert sighting.picture.broker_age_seconds is not None
    assert sighting.picture.broker_age_seconds >= 101
    (alarm, *_) = sighting.picture.alarms
    assert (alarm.code, alarm.subject) == ("service_dead", "broker")
    assert sighting.picture.ages.machine is not None
    assert sighting.picture.ages.machine >= 105
    assert [(job.position, job.starts_at) for job in sighting.picture.waiting] == [(1, None)]
    document = sighting.document()
    assert document["source"] == "status.json"


def test_without_a_picture_the_broker_s_absence_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailableError):
        last_written(context_in(tmp_path, io.StringIO()), UNAVAILABLE)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_bytes(b"{")
    err = io.StringIO()
    with pytest.raises(BrokerUnavailableError):
        last_written(context_in(tmp_path, err), UNAVAILABLE)
    assert "status.json cannot be read either" in err.getvalue()


def test_what_the_broker_does_not_know_is_the_status_process_s(tmp_path: Path) -> None:
    context = context_in(tmp_path, io.StringIO())
    assert fold(context, overview()).ages.machine is None
    write_picture(tmp_path, at=time.time() - 20, services=[])
    shown = fold(context, overview())
    assert shown.seq == 7, "what the broker says now"
    assert shown.measured == OBSERVED.measured
    assert shown.ages.machine is not None
    assert 24 <= shown.ages.machine < 60
