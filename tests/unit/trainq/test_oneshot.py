"""A child's answer is its own, whatever is printed in it: by a plug-in, by C, at its exit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.installations import wait_for
from trainq.errors import TrainqError
from trainq.generating.asked import Written
from trainq.service.child import Child

PRINTING = """
import atexit, os, sys
from trainq.generating.base import chat, provenance

print("imported")
atexit.register(print, "it ends")

class Printing:
    name, version, levels = "printing", "1", 1

    def rows(self, request):
        print("rows come", flush=True)
        os.write(1, b"without Python\\n")
        os.system("echo by a program")
        for index in range(request.count):
            print("row", index)
            if request.seed == 13:
                raise RuntimeError("that seed")
            yield {"messages": chat(f"after {index}?", str(index + 1)),
                   "metadata": provenance(self, request, index, "printing")}
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """What to ask a child for that has a plug-in which prints."""
    facts = tmp_path / "plugins" / "printing-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: printing\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[trainq.generators]\nprinting = printing_rows:Printing\n")
    (facts.parent / "printing_rows.py").write_text(PRINTING)
    monkeypatch.setenv("PYTHONPATH", str(facts.parent), prepend=os.pathsep)
    return {"generator": "printing", "count": 3, "level": 1, "path": str(tmp_path / "made.jsonl")}


def answer(log: Path, request: dict[str, object]) -> Written:
    with Child(log, "trainq.generating.child", request) as asked:
        wait_for(lambda: asked.has_ended, "the child's end")
        return asked.result(Written)


def test_what_a_plug_in_prints_goes_to_the_log_and_not_into_the_answer(child: dict[str, object],
                                                                       tmp_path: Path) -> None:
    assert answer(tmp_path / "log", {**child, "seed": 1}).rows == 3
    with pytest.raises(TrainqError, match="it has failed: RuntimeError: that seed"):
        answer(tmp_path / "log2", {**child, "seed": 13})
    for log in (tmp_path / "log", tmp_path / "log2"):
        words = set(log.read_text().splitlines())
        assert {"imported", "rows come", "without Python", "by a program", "row 0", "it ends"} <= words
