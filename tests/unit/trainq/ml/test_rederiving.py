"""The driver makes, from journal and data alone, the very weights of a run that was disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.generations import bits_of
from tests.unit.trainq.ml import promised
from tests.unit.trainq.ml.tiny import Script
from trainq import checkpoints, jobs
from trainq.checkpoints import Verified
from trainq.config import Home
from trainq.errors import DamageError, UsageError
from trainq.journal import Journal
from trainq.ml import determinism, rederiving

pytestmark = pytest.mark.slow  # real jobs are trained again


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("promised")
    promised.tell(root)
    return root


def head(home: Home) -> Verified:
    found, _ = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    return found


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "trainq.ml.rederiving", *map(str, arguments)], check=False,
                          capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_an_undisturbed_run_gives_the_same_bytes(told: Path, tmp_path: Path) -> None:
    home, into = Home(told / "home"), Home(tmp_path / "driver")
    before = sorted((path, path.stat().st_mtime_ns) for path in home.root.rglob("*"))
    ended = run("--home", home.root, "--into", into.root)
    assert ended.returncode == 0, ended.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in home.root.rglob("*")) == before
    made, wanted = head(into), head(home)
    assert json.loads(ended.stdout) == {"jobs": 3, "steps": wanted.facts.step, "checkpoint": made.path.name}
    assert bits_of(made.manifest) == bits_of(wanted.manifest)
    assert len(checkpoints.list_generations(into.checkpoints)) == 1
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()].count("published") == 3


def test_jobs_with_wishes_of_their_own_come_out_the_same(tmp_path: Path) -> None:
    """Also the first one, whose seed is not the line's."""
    promised.save_model(tmp_path / "model")
    determinism.set_threads(1)
    story = promised.Story(Home(tmp_path / "home"), tmp_path / "model")
    wishes: list[dict[str, Any]] = [
        {"seed": 77, "schedule": "cosine", "rewarm_steps": 1, "precision": "bf16"},
        {"learning_rate": 0.003, "schedule": "wsd", "decay_fraction": 0.5, "precision": "fp16", "batch_rows": 2},
        {"gradient_checkpointing": True, "max_grad_norm": 0.0, "schedule": "linear", "min_rate_fraction": 0.3}]
    for word, wished in zip(("red", "blue", "tall"), wishes, strict=True):
        number = story.submit(promised.rows(5, word), msgspec.structs.replace(promised.SETTINGS, **wished),
                              line_seed=promised.SETTINGS.seed)
        prepared = story.prepare(number)
        assert prepared is not None
        story.train(number, prepared, script=Script(at=1))
        story.record(jobs.LeaseEnded(job=f"train-{number}", reason="it stops"))
        story.restart()
        story.train(number, prepared)
    story.journal.close()
    into = Home(tmp_path / "driver")
    assert rederiving.rederive(story.home, into, model_path=None, seed=None)["jobs"] == 3
    made, wanted = head(into), head(story.home)
    assert made.facts.loss_scale is not None
    assert (made.facts.loss_scale, made.facts.metrics) == (wanted.facts.loss_scale, wanted.facts.metrics)
    assert bits_of(made.manifest) == bits_of(wanted.manifest)


def test_the_order_is_that_of_the_last_success(tmp_path: Path) -> None:
    promised.save_model(tmp_path / "model")
    story = promised.Story(Home(tmp_path / "home"), tmp_path / "model")
    for word in ("a", "b"):
        number = story.submit(promised.rows(4, word))
        story.prepare(number)
    for job in ("train-2", "train-1"):
        story.lease(job)
        story.record(jobs.JobSucceeded(job=job, result={}))
    assert [job.submitted.job for job in rederiving.read_promises(story.journal).jobs] == ["train-2", "train-1"]
    story.record(jobs.JobUncovered(job="train-2", generation=2, reason="lost"))
    assert [job.submitted.job for job in rederiving.read_promises(story.journal).jobs] == ["train-1"]
    story.lease("train-2")
    story.record(jobs.JobSucceeded(job="train-2", result={}))
    promises = rederiving.read_promises(story.journal)
    assert [job.submitted.job for job in promises.jobs] == ["train-1", "train-2"]
    assert promises.first is not None
    assert promises.first.train == promised.SETTINGS
    story.journal.close()


def test_a_shard_that_comes_out_different_is_damage(told: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.data.symlink_to(told / "home" / "data")
    old, new = Journal.open(told / "home" / "journal.db"), Journal.open(home.journal)
    with new.transaction():
        for entry in old.replay(0, 1000):
            event = entry.event
            if isinstance(event, jobs.JobPrepared):
                event = jobs.JobPrepared(job=event.job, shard=event.shard, shard_digest="e" * 64, rows=event.rows,
                                         tokens=event.tokens, report={})
            new.append(event, entry.at)
    old.close()
    new.close()
    with pytest.raises(DamageError, match="comes out as"):
        rederiving.rederive(home, Home(tmp_path / "driver"), model_path=None, seed=None)


def test_a_folder_with_checkpoints_is_refused(told: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already"):
        rederiving.rederive(Home(told / "home"), Home(told / "home"), model_path=None, seed=None)
    with pytest.raises(UsageError, match="not there"):
        rederiving.rederive(Home(tmp_path), Home(tmp_path / "driver"), model_path=None, seed=None)


def test_a_mistake_on_the_command_line_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert rederiving.main(["--home", "x"]) == 64
    assert json.loads(capsys.readouterr().err)["code"] == "usage"
