"""Figures and doctor beside a whole installation that trains: what is counted is what was done."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.web.exposition import Exposition
from tests.installations import Installation, wait_for
from trainq.client import BrokerClient
from trainq.picture import StatusPicture

pytestmark = pytest.mark.slow


def scrape(installation: Installation, exposition: Exposition) -> dict[str, float]:
    """By name, summed over labels; of histograms the sums and counts."""
    picture = msgspec.json.decode(installation.home.status_file.read_bytes(), type=StatusPicture)
    with BrokerClient(installation.home) as broker:
        text = exposition.render(picture, broker, time.time()).decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def doctor(installation: Installation, code: int) -> dict[str, list[dict[str, Any]]]:
    said = json.loads(installation.trainq("doctor", "--json", expect=code).stdout)
    found: dict[str, list[dict[str, Any]]] = {}
    for check in said["checks"]:
        found.setdefault(check["name"], []).append(check)
    return found


def test_what_is_counted_is_what_was_done(installation: Installation) -> None:
    installation.start()
    wait_for(installation.home.status_file.exists, "there is a picture")
    exposition = Exposition(installation.home)
    assert scrape(installation, exposition)["trainq_steps_total"] == 0
    job = installation.submit_rows("rows.jsonl", 400)
    installation.trainq("wait", job)
    found = scrape(installation, exposition)
    (done,) = [event["body"]["result"] for event in installation.events(job) if event["type"] == "JobSucceeded"]
    assert found["trainq_steps_total"] == found["trainq_step_seconds_count"] == done["steps_done"] > 0
    assert found["trainq_rows_judged_total"] == 400
    published = [event["body"] for event in installation.events(job) if event["type"] == "CheckpointPublished"]
    assert found["trainq_checkpoints_published_total"] == len(published) > 0
    assert all(each["size_bytes"] > 0 and each["write_seconds"] >= 0 for each in published)
    assert found["trainq_checkpoint_bytes_total"] == sum(each["size_bytes"] for each in published)
    assert found["trainq_job_seconds_count"] == 2, "its preparation, too"
    assert found["trainq_tokens_total"] > found["trainq_tokens_trained_total"] > 0

    wait_for(installation.at_rest, "all programs run")
    found = doctor(installation, 0)
    assert [check["verdict"] for check in found["supervisord"]] == ["ok"]
    assert [check["verdict"] for check in found["services"]] == ["ok"]
    assert {check["verdict"] for check in (*found["locks"], *found["sockets"], *found["broker"])} == {"ok"}

    installation.control("stop", "preparer")
    os.kill(installation.pid("watcher"), signal.SIGSTOP)
    found = doctor(installation, 1)
    assert any(check["mend"] == "supervisorctl start preparer" for check in found["supervisord"])
    assert any("trainer cannot work" in check["found"] for check in found["services"])
    assert any(check["mend"] == f"kill -CONT {installation.pid('watcher')}" for check in found["locks"])
    os.kill(installation.pid("watcher"), signal.SIGCONT)
