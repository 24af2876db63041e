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
from trainq import checkpoints, manifests

pytestmark = pytest.mark.slow

SETTINGS = {"TRAINQ_WATCHER_SETTLE_SECONDS": "0.3", "TRAINQ_WATCHER_SWEEP_SECONDS": "1", "TRAINQ_TRAIN_THREADS": "1",
            "TRAINQ_BROKER_HEARTBEAT_SECONDS": "1", "TRAINQ_BROKER_LEASE_SECONDS": "6"}


def rows(count: int, word: str) -> str:
    return "".join(orjson.dumps({"prompt": f"{word} {n}?", "completion": f"{word} {n * n}."}).decode() + "\n"
                   for n in range(count))


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.settings = {**SETTINGS, **installation.slow_steps()}
    installation.start()
    return installation


def write(installation: Installation, name: str, content: str) -> str:
    path = installation.folder / name
    path.write_text(content)
    return str(path)


def submit(installation: Installation, name: str, content: str, *options: str) -> str:
    """Submit a file; its job."""
    return str(installation.json("submit", write(installation, name, content), *options)["receipts"][0]["job"])


def named(installation: Installation, name: str, *states: str) -> dict[str, Any] | None:
    """The job of the file of this name, if there is one and it is in one of these states."""
    return next((job for job in installation.jobs(*states) if job["name"] == name), None)


def metrics(installation: Installation, job: str) -> list[dict[str, Any]]:
    path = installation.home.metrics / f"{job}.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def show(installation: Installation, job: str) -> dict[str, Any]:
    found: dict[str, Any] = installation.json("show", job)
    return dict(found["job"])


def test_files_go_in_both_ways_and_a_model_comes_out(running: Installation) -> None:
    first = write(running, "same.jsonl", rows(40, "row"))
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


def test_a_file_still_being_written_is_waited_for(shared: Installation) -> None:
    path = shared.home.inbox / "slow.jsonl"
    wait_for(path.parent.is_dir, "the inbox")
    with path.open("w") as stream:
        stream.write(rows(8, "slow"))
        stream.flush()
        (shared.home.inbox / "whole.jsonl").write_text(rows(8, "whole"))
        wait_for(lambda: named(shared, "whole.jsonl"), "the file beside it is taken")
        assert named(shared, "slow.jsonl") is None
        stream.write(rows(4, "late"))
    slow = wait_for(lambda: named(shared, "slow.jsonl"), "it is taken when it is closed")
    wait_for(lambda: all(named(shared, name, "succeeded") for name in ("slow.jsonl", "whole.jsonl")),
             "both are trained")
    assert shared.json("show", slow["id"])["report"]["read"] == 12
    assert not [path for path in shared.home.inbox.iterdir() if not path.name.startswith(".")]


def test_what_cannot_be_taken_is_set_aside_with_the_reason(shared: Installation) -> None:
    wait_for(shared.home.inbox.is_dir, "the inbox")
    (shared.home.inbox / "notes.txt").write_text("hello")
    (shared.home.inbox / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\nnot json\n')
    job = wait_for(lambda: named(shared, "bad.jsonl", "rejected"), "the bad file is rejected")
    assert "row" in job["reason"]
    report = orjson.loads((shared.home.rejected / f"{job['id']}.report.json").read_bytes())
    assert "line" in str(report)
    wait_for(lambda: [event for event in shared.events()
                      if event["type"] == "FileRefused" and event["body"]["name"] == "notes.txt"],
             "the text is refused")
    kept = [path for path in shared.home.rejected.iterdir() if path.name.endswith("notes.txt")]
    assert [path.read_text() for path in kept] == ["hello"]


def long_job(running: Installation, word: str, epochs: int = 3) -> str:
    """Submit a job of 30 small steps (or other epochs of 10) and wait until it is in the middle; its id."""
    job = submit(running, f"{word}.jsonl", rows(40, word), "--epochs", str(epochs), "--set", "batch_rows=4")
    wait_for(lambda: len(metrics(running, job)) > 5, "it trains", 90)
    return job


def finished(running: Installation, job: str) -> dict[str, Any]:
    wait_for(lambda: job in [each["id"] for each in running.jobs("succeeded")], f"{job} succeeds", 200)
    found = show(running, job)
    assert found["result"]["steps_done"] == found["result"]["steps_planned"] == 30
    assert [entry["job_step"] for entry in metrics(running, job)] == list(range(1, 31)), "each step once"
    return found


@pytest.mark.timeout(600)
def test_kill_9_of_each_program_while_a_job_runs(shared: Installation) -> None:
    programs = ["broker", "preparer", "watcher", "status", "snapshot", "retention", "trainer"]
    def succeeded() -> int:
        return int(shared.json("status")["counts"]["train"].get("succeeded", 0))

    before = len(shared.jobs("succeeded"))
    for number, program in enumerate(programs, start=1):
        job = long_job(shared, program)
        shared.kill(program)
        assert finished(shared, job)["attempts"] == (2 if program == "trainer" else 1), program
        assert succeeded() == before + number
    job = long_job(shared, "training")
    processes = [process for process in shared.psutil_processes()
                 if "services.trainer.forkserver" in process.cmdline()]
    training = [process for process in processes if process.parent() in processes]
    assert len(training) == 1
    os.kill(training[0].pid, signal.SIGKILL)
    assert finished(shared, job)["attempts"] == 1


def test_stop_saves_and_start_goes_on_at_the_next_step(shared: Installation) -> None:
    job = long_job(shared, "stopped")
    shared.control("stop", "all")
    done = metrics(shared, job)[-1]["step"]
    newest = shared.home.current.resolve()
    manifests.verify(newest, "checkpoint")
    assert f"s{done:08d}" in newest.name, "the last step is in the checkpoint"
    assert "not" in shared.trainq("why").stdout
    shared.control("start", "all")
    finished(shared, job)
    events = [event["type"] for event in shared.events(job)]
    assert events.count("LeaseGranted") == 2
    assert events[-1] == "JobSucceeded"


def test_kill_9_of_supervisord_leaves_nobody_behind(shared: Installation) -> None:
    job = long_job(shared, "supervisord")
    shared.kill_supervisord()
    wait_for(lambda: not shared.processes(), "its programs stop by themselves", 60)
    shared.start()
    finished(shared, job)


def test_a_cancelled_job_leaves_no_steps_in_the_weights(shared: Installation) -> None:
    current = shared.home.current
    before = wait_for(lambda: current.exists() and current.resolve(), "there is a generation")
    weights = manifests.read(before, "checkpoint").files["model.safetensors"]
    job = long_job(shared, "cancelled", epochs=100)
    shared.trainq("cancel", job)
    shared.trainq("wait", job, expect=1)
    assert show(shared, job)["state"] == "cancelled"
    after = current.resolve()
    assert manifests.verify(after, "checkpoint").files["model.safetensors"] == weights
    second = submit(shared, "next.jsonl", rows(16, "next"))
    shared.trainq("wait", second)
    steps_before = checkpoints.read_facts(after).step
    assert show(shared, second)["result"]["global_step"] == steps_before + 1


def test_a_lost_shard_is_made_again(shared: Installation) -> None:
    shared.trainq("pause")
    first, second = (submit(shared, f"lost-{word}.jsonl", rows(16, word)) for word in ("first", "second"))
    wait_for(lambda: all(job["prepared"] for job in shared.jobs() if job["id"] in (first, second)),
             "both are prepared")
    for event in shared.events(first):
        if event["type"] == "JobPrepared":
            shutil.rmtree(shared.home.cache / event["body"]["shard"])
    shared.trainq("resume")
    shared.trainq("wait", first, second)
    assert show(shared, first)["failures"] == 0
    prepared = first.replace("train", "prepare")
    assert "PreparationReopened" in [event["type"] for event in shared.events(prepared)]


def test_a_pause_is_said_and_kept(shared: Installation) -> None:
    shared.trainq("pause", "--reason", "lunch")
    submit(shared, "paused.jsonl", rows(8, "paused"))
    wait_for(lambda: "lunch" in shared.trainq("why").stdout, "why says it")
    shared.kill("broker")
    wait_for(lambda: "lunch" in shared.trainq("why").stdout, "a restarted broker says it too")
    assert named(shared, "paused.jsonl", "queued")
    shared.trainq("resume")
    wait_for(lambda: named(shared, "paused.jsonl", "succeeded"), "it is trained after the pause")


def test_a_dead_process_is_shown_dead_and_a_missing_broker_is_said(shared: Installation) -> None:
    def of(picture: Any) -> dict[str, str]:
        """Without those that the profile leaves out."""
        return {one["name"]: one["state"] for one in picture["services"] if one["cause"] != "disabled"}

    def states() -> dict[str, str]:
        return of(shared.json("status"))

    def all_run() -> bool:
        """As the picture has it, which the command reads: a command is a process, and this is asked often."""
        return set(of(orjson.loads(shared.home.status_file.read_bytes())).values()) == {"RUNNING"}

    wait_for(shared.home.status_file.exists, "there is a picture")
    wait_for(all_run, "all run")
    wait_for(lambda: set(states().values()) == {"RUNNING"}, "it is shown that all run", 60)
    shared.control("stop", "preparer")
    wait_for(lambda: states()["preparer"] == "STOPPED", "a stopped one is shown", 60)
    shared.control("stop", "broker")
    wait_for(lambda: "broker" in shared.trainq("why").stdout, "a missing broker is the reason", 20)
    assert "old" in shared.trainq("status").stderr
    shared.trainq("submit", write(shared, "unheard.jsonl", rows(8, "unheard")), expect=69)
    shared.control("start", "broker", "preparer")


def test_the_protocols_examples_work_as_printed(shared: Installation) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "protocol.md").read_text(), re.DOTALL)
    subscriber, lister = examples
    assert len([line for line in subscriber.splitlines() if line.strip()]) <= 10
    job = submit(shared, "listed.jsonl", rows(8, "listed"))
    shared.trainq("wait", job)
    listed = subprocess.run([sys.executable, "-c", lister, str(shared.home.root)], capture_output=True, text=True,
                            check=True, timeout=30)
    assert listed.stdout.splitlines() == [f"{each['id']} {each['state']} {each['name']}" for each in shared.jobs()]
    assert f"{job} succeeded listed.jsonl" in listed.stdout.splitlines()
    once = subscriber.replace("while True:", "for _ in range(2):")
    heard = subprocess.run([sys.executable, "-c", once, str(shared.home.root)], capture_output=True, text=True,
                           check=True, timeout=30)
    assert "queue is empty" in heard.stdout
