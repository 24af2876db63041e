"""What a new user is promised: the examples are learned, and a real data set goes through by both ways."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from typing import Any

import orjson
import pytest

from installations import ROOT, Installation, wait_for

pytestmark = pytest.mark.slow

# Two of these run beside each other; more threads than processors would only make both slower.
ONE_THREAD = {"TRAINQ_TRAIN_THREADS": "1"}
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k" / "train-1000.jsonl"


def answers(installation: Installation, prompts: list[str]) -> list[str]:
    """What the newest checkpoint answers, greedily."""
    asked = {"checkpoint": str(installation.home.current), "prompts": prompts, "max_new_tokens": 48}
    done = subprocess.run([sys.executable, "-m", "trainq.ml.sample"], input=orjson.dumps(asked), capture_output=True,
                          env=installation.environment, check=True, timeout=120)
    found: list[str] = orjson.loads(done.stdout)["answers"]
    return found


def losses(installation: Installation, *jobs: str) -> list[float]:
    return [orjson.loads(line)["loss"] for job in jobs
            for line in (installation.home.metrics / f"{job}.jsonl").read_bytes().splitlines()]


def report(installation: Installation, job: str) -> dict[str, Any]:
    found: dict[str, Any] = installation.json("show", job)["report"]
    parts = ("trained", "held_out", "rejected", "dropped_long", "duplicate")
    assert found["read"] == sum(found[part] for part in parts)
    return found


@pytest.mark.timeout(600)
def test_the_built_in_model_learns_the_example(installation: Installation) -> None:
    """16 of 20 fixed prompts exactly, after three quarters of what scripts/up does."""
    installation.settings = dict(ONE_THREAD)
    installation.start()
    installation.trainq("submit", str(ROOT / "examples" / "chat.jsonl"), "--epochs", "12", "--set",
                        "schedule=cosine", "--set", "learning_rate=0.002", "--wait", timeout=500)
    prompts = [orjson.loads(line) for line in (ROOT / "examples" / "prompts.jsonl").read_bytes().splitlines()]
    given = answers(installation, [prompt["prompt"] for prompt in prompts])
    wrong = [(prompt["prompt"], answer) for prompt, answer in zip(prompts, given, strict=True)
             if answer != prompt["answer"]]
    assert len(prompts) == 20
    assert len(wrong) <= 4, wrong
    result = installation.json("show", "train-1")["job"]["result"]
    assert result["steps_done"] == result["steps_planned"] == 240


@pytest.mark.timeout(600)
@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K rows are not beside this checkout")
def test_gsm8k_goes_in_by_both_ways(installation: Installation) -> None:
    lines = GSM8K.read_bytes().splitlines(keepends=True)
    first, rest = installation.folder / "first.jsonl", installation.folder / "rest.jsonl"
    first.write_bytes(b"".join(lines[:100]))
    rest.write_bytes(b"".join(lines[100:200]))
    (installation.folder / "my.toml").write_text('[data]\nmap = { prompt = "question", completion = "answer" }\n')
    installation.settings = {**ONE_THREAD, "TRAINQ_TRAIN_BATCH_ROWS": "4"}
    installation.start()
    installation.trainq("submit", str(first), "--map", "prompt=question,completion=answer", "--wait", timeout=400)
    # The rest by the inbox, under a configuration that maps the columns.
    installation.settings["TRAINQ_CONFIG"] = str(installation.folder / "my.toml")
    installation.restart()
    wait_for(installation.home.inbox.is_dir, "the inbox")
    shutil.copy(rest, installation.home.inbox)
    wait_for(lambda: len(installation.jobs("succeeded")) == 2, "both succeed", 400)

    reports = [report(installation, job) for job in ("train-1", "train-2")]
    assert [one["read"] for one in reports] == [100, 100]
    assert sum(one["trained"] for one in reports) > 180
    jobs = {job["id"]: job for job in installation.jobs()}
    for job, one in zip(("train-1", "train-2"), reports, strict=True):
        assert jobs[job]["result"]["steps_done"] == jobs[job]["result"]["steps_planned"] == -(-one["trained"] // 4)
    steps = losses(installation, "train-1", "train-2")
    assert jobs["train-2"]["result"]["global_step"] == len(steps)
    tenth = len(steps) // 10
    assert statistics.mean(steps[-tenth:]) <= 0.7 * statistics.mean(steps[:tenth])

    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(installation.home.current)
    assert model.config.max_position_embeddings == 1024
