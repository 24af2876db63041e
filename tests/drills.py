"""An installation whose model line is put through something: what its tests ask again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from tests.generations import bits_of
from tests.installations import Installation, wait_for
from trainq import checkpoints, manifests

FAST = {"TRAINQ_TRAIN_THREADS": "1", "TRAINQ_TRAIN_BATCH_ROWS": "4", "TRAINQ_TRAIN_MICRO_BATCH_ROWS": "2",
        "TRAINQ_TRAIN_CHECKPOINT_SECONDS": "3600"}


class Drill:
    """An installation with a model that learns, and what is asked of it again and again."""

    def __init__(self, installation: Installation, *, slow: bool = False, **settings: str) -> None:
        """``slow``: see :meth:`~tests.installations.Installation.slow_steps`."""
        self.installation, self.home = installation, installation.home
        installation.settings = {**FAST, **(installation.slow_steps() if slow else {}), **settings}
        installation.start()
        installation.wait_answers()

    def train(self, name: str, rows: int = 8) -> str:
        return self.installation.submit_rows(name, rows)

    def states(self) -> dict[str, str]:
        return {job["id"]: job["state"] for job in self.installation.jobs()}

    def until(self, states: dict[str, str]) -> None:
        wait_for(lambda: self.states() == states, f"the jobs are {states}", 120)

    def until_trained(self, *jobs: str) -> None:
        wait_for(lambda: all(self.states()[job] == "succeeded" for job in jobs), f"{jobs} are trained", 120)

    def snapshot(self) -> str:
        job = self.installation.json("snapshot", "create", "--wait")["jobs"][0]
        return str(job["result"]["facts"]["snapshot"])

    def restore(self, name: str, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.installation.trainq("restore", name, *words, "--wait", "--json", expect=code)
        document: dict[str, Any] = orjson.loads(done.stdout)["jobs"][0]
        return document

    def head(self) -> Path:
        return checkpoints.list_generations(self.home.checkpoints)[0]

    def bits(self) -> dict[str, str]:
        """The digests of everything in the head that computing goes on from: all but the card, which names itself."""
        return bits_of(manifests.read(self.head(), checkpoints.KIND))

    def facts(self) -> checkpoints.CheckpointFacts:
        return checkpoints.verify(self.head()).facts

    def prove(self) -> None:
        self.installation.prove("--allow-open")

    def rederive(self) -> None:
        """Stop, derive the weights from the journal alone, and have them compared bit for bit."""
        self.installation.control("stop", "all")
        into = self.installation.folder / "rederived"
        done = subprocess.run([sys.executable, "-m", "trainq.ml.rederiving", "--home", str(self.home.root), "--into",
                               str(into)], capture_output=True, text=True, check=False,
                              env=self.installation.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        self.installation.prove("--allow-open", "--driver", str(into))
