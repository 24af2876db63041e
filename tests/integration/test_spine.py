"""The system end to end: real supervisord, real processes, a real small model really trained.

The built-in model is trained on few rows, so that a test takes seconds; what is proven here is the way of a file, not
what the model learns (tests/acceptance does that).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import Any

import orjson
import pytest

from installations import ROOT, Installation, wait_for
from trainq import manifests

pytestmark = pytest.mark.slow

QUICK = {"TRAINQ_WATCHER_SETTLE_SECONDS": "0.3", "TRAINQ_WATCHER_SWEEP_SECONDS": "1", "TRAINQ_TRAIN_THREADS": "1",
         "TRAINQ_BROKER_HEARTBEAT_SECONDS": "1", "TRAINQ_BROKER_LEASE_SECONDS": "6"}


def rows(count: int, word: str = "row") -> str:
    return "".join(orjson.dumps({"prompt": f"{word} {n}?", "completion": f"{word} {n * n}."}).decode() + "\n"
                   for n in range(count))


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.settings = dict(QUICK)
    installation.start()
    return installation


def write(installation: Installation, name: str, content: str) -> str:
    path = installation.folder / name
    path.write_text(content)
    return str(path)


def metrics(installation: Installation, job: str) -> list[dict[str, Any]]:
    path = installation.home.metrics / f"{job}.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def show(installation: Installation, job: str) -> dict[str, Any]:
    found: dict[str, Any] = installation.json("show", job)
    return dict(found["job"])


def test_files_go_in_both_ways_and_a_model_comes_out(running: Installation) -> None:
    first = write(running, "same.jsonl", rows(40))
    running.trainq("submit", first, "--epochs", "2", "--wait")
    (running.home.inbox / "sub").mkdir()
    (running.home.inbox / "sub" / "same.jsonl").write_text(rows(24, "other") + rows(2, "other"))
    wait_for(lambda: running.jobs("succeeded")[1:], "both jobs succeed")

    one, two = (show(running, job) for job in ("train-1", "train-2"))
    assert (one["result"]["steps_done"], one["result"]["steps_planned"]) == (6, 6), "3 batches, 2 epochs"
    assert (two["result"]["steps_done"], two["result"]["steps_planned"]) == (2, 2)
    assert [one["result"]["global_step"], two["result"]["global_step"]] == [6, 8], "one line over all files"
    steps = [entry["step"] for job in ("train-1", "train-2") for entry in metrics(running, job)]
    assert steps == list(range(1, 9))
    report = running.json("show", "train-2")["report"]
    assert report["read"] == 26 == (report["trained"] + report["held_out"] + report["rejected"]
                                    + report["dropped_long"] + report["duplicate"])
    assert report["duplicate"] == 2

    newest = running.home.current.resolve()
    assert newest.name == two["result"]["checkpoint"]
    manifests.verify(newest, "checkpoint")
    assert running.trainq("submit", first).stdout.count("train-1") == 1, "the same content is a duplicate"
    assert len(running.jobs()) == 2

    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(newest)
    assert 1e6 < model.num_parameters() < 4e6
    tokenizer = transformers.AutoTokenizer.from_pretrained(newest)
    assert tokenizer.chat_template
    assert running.trainq("sample", "row 3?", "--max-new-tokens", "5").returncode == 0

    # Nobody else on the machine can read any of it.
    assert running.home.root.stat().st_mode & 0o077 == 0
    for path in (running.home.run, running.home.journal):
        assert path.stat().st_mode & 0o077 == 0


def test_a_file_still_being_written_is_waited_for(running: Installation) -> None:
    path = running.home.inbox / "slow.jsonl"
    wait_for(path.parent.is_dir, "the inbox")
    with path.open("w") as stream:
        stream.write(rows(8))
        stream.flush()
        (running.home.inbox / "whole.jsonl").write_text(rows(8, "whole"))
        wait_for(lambda: running.jobs(), "the file beside it is taken")
        assert [job["name"] for job in running.jobs()] == ["whole.jsonl"]
        stream.write(rows(4, "late"))
    wait_for(lambda: len(running.jobs()) == 2, "it is taken when it is closed")
    slow = next(job for job in running.jobs() if job["name"] == "slow.jsonl")
    wait_for(lambda: len(running.jobs("succeeded")) == 2, "both are trained")
    assert running.json("show", slow["id"])["report"]["read"] == 12
    assert not [path for path in running.home.inbox.iterdir() if not path.name.startswith(".")]


def test_what_cannot_be_taken_is_set_aside_with_the_reason(running: Installation) -> None:
    wait_for(running.home.inbox.is_dir, "the inbox")
    (running.home.inbox / "notes.txt").write_text("hello")
    (running.home.inbox / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\nnot json\n')
    job = wait_for(lambda: running.jobs("rejected"), "the bad file is rejected")[0]
    assert "row" in job["reason"]
    report = orjson.loads((running.home.rejected / f"{job['id']}.report.json").read_bytes())
    assert "line" in str(report)
    wait_for(lambda: [event for event in running.events() if event["type"] == "FileRefused"], "the text is refused")
    kept = [path for path in running.home.rejected.iterdir() if path.name.endswith("notes.txt")]
    assert [path.read_text() for path in kept] == ["hello"]


def long_job(running: Installation, word: str = "row") -> str:
    """Submit a job of 60 small steps and wait until it is in the middle; its id."""
    path = write(running, f"{word}.jsonl", rows(40, word))
    job = str(running.json("submit", path, "--epochs", "6", "--set", "batch_rows=4")["receipts"][0]["job"])
    wait_for(lambda: len(metrics(running, job)) > 5, "it trains", 90)
    return job


def finished(running: Installation, job: str) -> dict[str, Any]:
    wait_for(lambda: job in [each["id"] for each in running.jobs("succeeded")], f"{job} succeeds", 200)
    found = show(running, job)
    assert found["result"]["steps_done"] == found["result"]["steps_planned"] == 60
    assert [entry["job_step"] for entry in metrics(running, job)] == list(range(1, 61)), "each step once"
    return found


def test_kill_9_of_each_program_while_a_job_runs(running: Installation) -> None:
    """One installation for all of them, each with a job of its own: a start costs more than a kill."""
    programs = ["broker", "preparer", "watcher", "status", "snapshot", "retention", "trainer"]
    for number, program in enumerate(programs, start=1):
        job = long_job(running, program)
        running.kill(program)
        assert finished(running, job)["attempts"] == (2 if program == "trainer" else 1), program
        assert running.json("status")["counts"]["train"] == {"succeeded": number}
    job = long_job(running, "training")
    processes = [process for process in running.psutil_processes()
                 if "services.trainer.forkserver" in process.cmdline()]
    training = [process for process in processes if process.parent() in processes]
    assert len(training) == 1
    os.kill(training[0].pid, signal.SIGKILL)
    assert finished(running, job)["attempts"] == 1


def test_stop_saves_and_start_goes_on_at_the_next_step(running: Installation) -> None:
    job = long_job(running)
    running.control("stop", "all")
    done = metrics(running, job)[-1]["job_step"]
    newest = running.home.current.resolve()
    manifests.verify(newest, "checkpoint")
    assert f"s{done:08d}" in newest.name, "the last step is in the checkpoint"
    assert "not" in running.trainq("why").stdout
    running.control("start", "all")
    finished(running, job)
    events = [event["type"] for event in running.events(job)]
    assert events.count("LeaseGranted") == 2
    assert events[-1] == "JobSucceeded"


def test_kill_9_of_supervisord_leaves_nobody_behind(running: Installation) -> None:
    job = long_job(running)
    running.kill_supervisord()
    wait_for(lambda: not running.processes(), "its programs stop by themselves", 60)
    running.start()
    finished(running, job)


def test_a_cancelled_job_leaves_no_steps_in_the_weights(running: Installation) -> None:
    before = wait_for(lambda: running.home.current.exists() and running.home.current.resolve(), "the first generation")
    weights = manifests.read(before, "checkpoint").files["model.safetensors"]
    job = long_job(running)
    running.trainq("cancel", job)
    running.trainq("wait", job, expect=1)
    assert show(running, job)["state"] == "cancelled"
    after = running.home.current.resolve()
    assert manifests.verify(after, "checkpoint").files["model.safetensors"] == weights
    second = write(running, "next.jsonl", rows(16, "next"))
    running.trainq("submit", second, "--wait")
    assert show(running, "train-2")["result"]["global_step"] == 1


def test_a_lost_shard_is_made_again(running: Installation) -> None:
    running.trainq("pause")
    for number in range(2):
        running.trainq("submit", write(running, f"{number}.jsonl", rows(16, f"word{number}")))
    wait_for(lambda: all(job["prepared"] for job in running.jobs()) and len(running.jobs()) == 2, "both are prepared")
    first, second = (show(running, job) for job in ("train-1", "train-2"))
    for event in running.events("train-1"):
        if event["type"] == "JobPrepared":
            shutil.rmtree(running.home.cache / event["body"]["shard"])
    running.trainq("resume")
    running.trainq("wait", first["id"], second["id"])
    assert show(running, "train-1")["failures"] == 0
    assert "PreparationReopened" in [event["type"] for event in running.events("prepare-1")]


def test_a_pause_is_said_and_kept(running: Installation) -> None:
    running.trainq("pause", "--reason", "lunch")
    running.trainq("submit", write(running, "a.jsonl", rows(8)))
    wait_for(lambda: "lunch" in running.trainq("why").stdout, "why says it")
    running.kill("broker")
    wait_for(lambda: "lunch" in running.trainq("why").stdout, "a restarted broker says it too")
    assert running.jobs("queued")
    running.trainq("resume")
    wait_for(lambda: running.jobs("succeeded"), "it is trained after the pause")


def test_a_dead_process_is_shown_dead_and_a_missing_broker_is_said(running: Installation) -> None:
    def states() -> dict[str, str]:
        return {one["name"]: one["state"] for one in running.json("status")["services"]}

    wait_for(running.home.status_file.exists, "there is a picture")
    wait_for(lambda: set(states().values()) == {"RUNNING"}, "all run")
    running.control("stop", "preparer")
    wait_for(lambda: states()["preparer"] == "STOPPED", "a stopped one is shown", 10)
    running.control("stop", "broker")
    wait_for(lambda: "broker" in running.trainq("why").stdout, "a missing broker is the reason", 20)
    assert "old" in running.trainq("status").stderr
    running.trainq("submit", write(running, "a.jsonl", rows(8)), expect=69)


def test_the_protocols_examples_work_as_printed(running: Installation) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "protocol.md").read_text(), re.DOTALL)
    subscriber, lister = examples
    assert len([line for line in subscriber.splitlines() if line.strip()]) <= 10
    running.trainq("submit", write(running, "a.jsonl", rows(8)), "--wait")
    listed = subprocess.run([sys.executable, "-c", lister, str(running.home.root)], capture_output=True, text=True,
                            check=True, timeout=30)
    assert listed.stdout.split() == ["train-1", "succeeded", "a.jsonl"]
    once = subscriber.replace("while True:", "for _ in range(2):")
    heard = subprocess.run([sys.executable, "-c", once, str(running.home.root)], capture_output=True, text=True,
                           check=True, timeout=30)
    assert "queue is empty" in heard.stdout
