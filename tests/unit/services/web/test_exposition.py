"""A scrape: from a real journal, a real history and a picture to the text that Prometheus reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pictures import CHAMPION, learning
from services.web import exposition
from services.web.exposition import Exposition
from stories import Story
from trainq import config, messages, picture
from trainq.errors import BrokerUnavailableError
from trainq.figures import Alarm, Cpu, Life, Observations, SnapshotFigure
from trainq.gpu import Device, Devices
from trainq.jobs import JobKind
from trainq.messages import AnyRequest, LearningFigures, Overview, PrepareResult, Progress, TaskResult, TrainResult
from trainq.picture import StatusPicture
from trainq.stephistory import StepMetrics

REPORT = {"read": 5, "trained": 3, "held_out": 0, "rejected": 1, "dropped_long": 1, "duplicate": 0}
ALERTS = config.project_root() / "docs" / "alerts.yml"
# Debian's package is `prometheus`.
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool (Debian: prometheus; or PROMTOOL=)")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scraped:
    """A story, and what scrapes of it see."""

    def __init__(self, folder: Path) -> None:
        self.story = Story(folder)
        self.home = self.story.configuration.home
        self.exposition = Exposition(self.home)
        self.answers = True
        self.observed = Observations()
        self.alarms: tuple[Alarm, ...] | None = None
        self.learning: LearningFigures | None = None

    def call(self, request: AnyRequest, expect: type[msgspec.Struct], *,
             timeout_seconds: float = 0) -> msgspec.Struct:
        assert 0 < timeout_seconds < 5
        if not self.answers:
            raise BrokerUnavailableError("no answer")
        reply = self.story.ask(request)
        assert isinstance(reply, expect)
        return reply

    def picture(self) -> StatusPicture:
        overview = self.story.ask(messages.GetOverview(request_id=self.story.id()))
        assert isinstance(overview, Overview)
        folded = picture.fold(overview, overview_age_seconds=0.5, now_wall=self.story.clock.now,
                              is_alive=lambda _pid: True, silent_after_seconds=30, observed=self.observed)
        if self.alarms is not None:
            folded = msgspec.structs.replace(folded, alarms=self.alarms)
        return folded if self.learning is None else msgspec.structs.replace(folded, learning=self.learning)

    def text(self) -> str:
        return self.exposition.render(self.picture(), self, self.story.clock.now + 2).decode()  # type: ignore[arg-type]  # a generic protocol

    def scrape(self) -> Samples:
        return samples(self.text())


def samples(text: str) -> Samples:
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[Scraped]:
    made = Scraped(tmp_path)
    yield made
    made.story.journal.close()


def a_day_of_work(scraped: Scraped) -> None:
    """Files, good and bad, with checkpoints and a maintenance task."""
    story = scraped.story
    for content in "abc":
        story.submit(content)
    story.submit("low", priority=2)
    prepare = story.lease(JobKind.PREPARE)
    assert prepare is not None
    story.complete(prepare, PrepareResult(shard="s", shard_digest="0" * 64, rows=3, tokens=30, report=REPORT))
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    history = scraped.home.metrics / f"{lease.job}.jsonl"
    history.write_bytes(b"".join(msgspec.json.encode(StepMetrics(
        step=step, job_step=step, loss=2.0, learning_rate=0.1, grad_norm=1.5, tokens=100, trained_tokens=40,
        seconds=0.02, rows=8)) + b"\n" for step in (1, 2, 3)))
    story.clock.now += 5
    story.ask(messages.ReportCheckpoint(
        request_id=story.id(), job=lease.job, token=lease.token, generation=2, name="g000002-s00000003", step=3,
        job_step=3, done=True, reason="job_end", stall_seconds=0.01, write_seconds=0.4, size_bytes=1000))
    story.clock.now += 5
    story.complete(lease, TrainResult(steps_done=3, steps_planned=3, global_step=3, generation=2,
                                      checkpoint="g000002-s00000003"))
    story.ask(messages.SubmitTask(request_id=story.id(), task=messages.RetentionTask()))
    reply = story.ask(messages.TakeLease(request_id=story.id(), worker="retention", session="s1",
                                         kinds=(JobKind.RETENTION,)))
    assert isinstance(reply, messages.Leased)
    assert reply.lease is not None
    story.clock.now += 1
    story.ask(messages.Complete(request_id=story.id(), job=reply.lease.job, token=reply.lease.token,
                                worker="retention", session="s1",
                                result=TaskResult(summary="done", facts={"freed_bytes": 77, "used_bytes": 5000})))


def test_counters_begin_with_the_first_scrape_and_gauges_are_of_now(scraped: Scraped) -> None:
    scraped.story.submit("before")
    first = scraped.scrape()
    assert value(first, "trainq_jobs", kind="train", state="queued") == 1
    assert value(first, "trainq_steps_total") == 0
    a_day_of_work(scraped)
    found = scraped.scrape()
    assert value(found, "trainq_jobs", kind="train", state="succeeded") == 1
    assert value(found, "trainq_jobs", kind="train", state="quarantined") == 0
    assert value(found, "trainq_jobs_submitted_total", origin="people") == 4, "the one before is not counted"
    assert value(found, "trainq_jobs_ended_total", kind="train", state="succeeded") == 1
    assert value(found, "trainq_job_seconds_sum", kind="train") == 10
    assert value(found, "trainq_job_seconds_bucket", kind="train", le="+Inf") == 1
    assert value(found, "trainq_rows_judged_total", verdict="rejected") == 1
    assert value(found, "trainq_steps_total") == 3
    assert value(found, "trainq_tokens_total") == 300
    assert value(found, "trainq_tokens_trained_total") == 120
    assert value(found, "trainq_step_seconds_count") == 3
    assert value(found, "trainq_step_seconds_bucket", le="0.025") == 3
    assert value(found, "trainq_checkpoint_bytes_total") == 1000
    assert value(found, "trainq_checkpoint_write_seconds_sum") == pytest.approx(0.4)
    assert value(found, "trainq_retention_freed_bytes_total") == 77
    assert value(found, "trainq_home_used_bytes") == 5000
    assert value(found, "trainq_task_last_end_timestamp_seconds", kind="retention", state="succeeded") == 1011
    assert value(found, "trainq_journal_events_total") == scraped.story.journal.head_seq
    assert value(found, "trainq_journal_bytes") > 0
    assert value(found, "trainq_exporter_behind_events") == 0
    assert value(found, "trainq_status_age_seconds") == 2
    assert value(found, "trainq_broker_age_seconds") == 2.5
    assert scraped.scrape() == found, "a scrape changes nothing"


def test_who_waits_by_priority_and_since_when(scraped: Scraped) -> None:
    scraped.story.submit("first")
    scraped.story.clock.now += 60
    scraped.story.submit("second")
    scraped.story.submit("later", priority=2)
    found = scraped.scrape()
    assert value(found, "trainq_waiting_jobs", priority="normal") == 2
    assert value(found, "trainq_waiting_jobs", priority="low") == 1
    assert value(found, "trainq_waiting_oldest_age_seconds", priority="normal") == 62
    assert value(found, "trainq_waiting_oldest_age_seconds", priority="low") == 2


def test_a_long_queue_is_counted_up_to_a_limit_and_the_sum_closes(
        scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.broker.reading.QUEUE_LOOKED_AT", 2)
    for content in "abcde":
        scraped.story.submit(content)
    found = scraped.scrape()
    assert value(found, "trainq_waiting_jobs", priority="normal") == 2
    assert value(found, "trainq_waiting_jobs", priority="beyond") == 3


def test_the_job_that_is_trained(scraped: Scraped) -> None:
    story = scraped.story
    scraped.scrape()
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN, worker="trainer")
    assert lease is not None
    step = StepMetrics(step=1, job_step=1, loss=2.5, learning_rate=0.1, grad_norm=1.5, tokens=9, trained_tokens=4,
                       seconds=0.02)
    (scraped.home.metrics / "train-1.jsonl").write_bytes(msgspec.json.encode(step) + b"\n")
    story.ask(messages.Heartbeat(
        request_id=story.id(), service="trainer", session="s1", pid=os.getpid(), state=messages.Lifecycle.RUNNING,
        leases=(messages.LeaseState(job=lease.job, token=lease.token, progress=Progress(
            step=1, steps=10, loss=2.5, learning_rate=0.1, tokens_per_second=99.0)),)))
    found = scraped.scrape()
    assert value(found, "trainq_training") == 1
    assert value(found, "trainq_training_loss") == 2.5
    assert value(found, "trainq_training_gradient_norm") == 1.5
    assert value(found, "trainq_running_job_done_steps") == 1
    assert value(found, "trainq_service_up", service="trainer") == 1
    assert value(found, "trainq_service_state", service="trainer", state="RUNNING") == 1
    assert value(found, "trainq_service_up", service="preparer") == 0
    assert value(found, "trainq_service_state", service="preparer", state="ABSENT") == 1
    assert value(found, "trainq_service_heartbeat_age_seconds", service="trainer") == 2.5


def test_machine_gpus_lives_and_alarms(scraped: Scraped) -> None:
    scraped.observed = Observations(
        lives={"watcher": Life(session="s", restarts=3, memory_bytes=1000)}, machine_at=scraped.story.clock.now - 1,
        cpu=Cpu(processors=8, percent=25.0, load=(1.5, 1.0, 0.5), memory_total_bytes=64, memory_available_bytes=16),
        gpu=Devices(devices=(Device(index=0, name="x", utilization_percent=50, memory_used_bytes=7,
                                    temperature_celsius=60, power_watts=99.5), Device(index=1, name="y"))),
        snapshots=(SnapshotFigure(name="n", generation=1, step=1, at=500.0),))
    scraped.alarms = tuple(Alarm(code="service_silent", subject=subject, level="bad", text="t", mend="m", since=1.0)
                           for subject in ("trainer", "preparer"))
    found = scraped.scrape()
    assert value(found, "trainq_cpu_utilization_ratio") == 0.25
    assert value(found, "trainq_memory_available_bytes") == 16
    assert value(found, "trainq_figures_age_seconds", of="machine") == 3
    assert value(found, "trainq_gpu_utilization_ratio", gpu="0") == 0.5
    assert value(found, "trainq_gpu_temperature_celsius", gpu="0") == 60
    assert value(found, "trainq_gpu_power_watts", gpu="0") == 99.5
    assert ("trainq_gpu_power_watts", (("gpu", "1"),)) not in found, "what the driver does not say is left out"
    assert value(found, "trainq_gpu_trouble") == 0
    assert value(found, "trainq_snapshot_newest_timestamp_seconds") == 500
    assert value(found, "trainq_alarms", code="service_silent", level="bad") == 2
    assert value(found, "trainq_service_restarts_total", service="broker") == 0
    scraped.story.ask(messages.Heartbeat(request_id=scraped.story.id(), service="watcher", session="s", pid=1,
                                         state=messages.Lifecycle.RUNNING))
    found = scraped.scrape()
    assert value(found, "trainq_service_restarts_total", service="watcher") == 3
    assert value(found, "trainq_service_memory_bytes", service="watcher") == 1000


def test_scores_of_the_newest_checkpoint_and_of_the_champion(scraped: Scraped) -> None:
    scraped.learning = learning()
    found = scraped.scrape()
    assert value(found, "trainq_suite_loss", suite="held-out", of="newest") == 2.5
    assert value(found, "trainq_suite_loss", suite="held-out", of="champion") == 2.4
    assert value(found, "trainq_suite_score_ratio", suite="arithmetic-l01", of="newest") == 0.5
    assert not any("job-train-7" in dict(labels).values() for _, labels in found), "those come and go with the files"
    assert value(found, "trainq_generator_level", generator="arithmetic") == 2
    assert value(found, "trainq_champion_generation") == int(CHAMPION[1:7])
    assert value(found, "trainq_champion_since_timestamp_seconds") == 700
    assert value(found, "trainq_evaluation_newest_timestamp_seconds") == 970
    assert value(found, "trainq_champion_moves_total", how="promoted") == 0


def test_without_the_broker_what_it_knows_is_left_out_and_nothing_is_lost(scraped: Scraped) -> None:
    scraped.scrape()
    last = scraped.picture()
    a_day_of_work(scraped)
    scraped.answers = False
    found = samples(scraped.exposition.render(last, scraped, scraped.story.clock.now).decode())  # type: ignore[arg-type]  # as above
    assert value(found, "trainq_exporter_broker_up") == 0
    assert value(found, "trainq_steps_total") == 0
    assert not any(name == "trainq_waiting_jobs" for name, _ in found)
    scraped.answers = True
    assert value(scraped.scrape(), "trainq_steps_total") == 3


def test_a_scrape_asks_for_a_bounded_number_of_events(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    scraped.scrape()
    monkeypatch.setattr(exposition, "_PAGES", 1)
    monkeypatch.setattr(exposition, "_PAGE", 2)
    for content in "abc":
        scraped.story.submit(content)
    found = scraped.scrape()
    assert value(found, "trainq_jobs_submitted_total", origin="people") == 2
    assert value(found, "trainq_exporter_behind_events") == 1
    assert value(scraped.scrape(), "trainq_jobs_submitted_total", origin="people") == 3


def test_another_journal_begins_anew(scraped: Scraped, tmp_path: Path) -> None:
    scraped.scrape()
    scraped.story.submit()
    assert value(scraped.scrape(), "trainq_jobs_submitted_total", origin="people") == 1
    scraped.story.journal.close()
    scraped.story = Story(tmp_path / "other")
    scraped.story.submit()
    found = scraped.scrape()
    assert ("trainq_jobs_submitted_total", (("origin", "people"),)) not in found
    scraped.story.submit("b")
    assert value(scraped.scrape(), "trainq_jobs_submitted_total", origin="people") == 1


def test_no_label_grows_and_every_name_is_as_prometheus_wants_it(scraped: Scraped) -> None:
    scraped.scrape()
    a_day_of_work(scraped)
    scraped.learning = learning()
    text = scraped.text()
    allowed = {"kind", "state", "service", "priority", "verdict", "origin", "cause", "store", "by", "version", "le",
               "of", "gpu", "code", "level", "suite", "how", "outcome", "generator", "direction"}
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("trainq_")
        assert family.documentation
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|mib|percent)(_|$)", family.name), family.name
        for sample in family.samples:
            assert set(sample.labels) <= allowed, sample
            assert not any("train-" in label or ".jsonl" in label for label in sample.labels.values())
            assert (family.type == "counter") == sample.name.endswith("_total"), sample
    assert text.count("# HELP") == len({line.split()[2] for line in text.splitlines() if line.startswith("# HELP")})
    assert not re.search(r"^(python|process)_", text, re.MULTILINE), "the web process is not what is measured"


@needs_promtool
def test_promtool_has_nothing_to_say_of_the_metrics(scraped: Scraped) -> None:
    scraped.scrape()
    a_day_of_work(scraped)
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=scraped.text(), capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_promtool_takes_the_alert_rules() -> None:
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rules_name_metrics_that_there_are(scraped: Scraped) -> None:
    scraped.scrape()
    a_day_of_work(scraped)
    known = {name for name, _ in scraped.scrape()} | {
        # Only where there is something to say.
        "trainq_disk_full_in_seconds", "trainq_snapshot_newest_timestamp_seconds", "trainq_alarms"}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 10
    for rule in rules:
        named = set(re.findall(r"\btrainq_\w+", rule["expr"]))
        assert named <= known, (rule["alert"], named - known)
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
