"""A program as a scorer: what it is told, what it may say, and that nothing of it stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.installations import wait_for
from trainq.errors import InputError
from trainq.liveness import is_alive
from trainq.samples import Message
from trainq.scoring import Case, Score, make, prove

# Each of them starts interpreters.
pytestmark = pytest.mark.slow

CASES = [Case(row=row, prompt=(Message("user", f"{row}?"),), reference=str(row), metadata={"level": row})
         for row in (4, 7)]
PROGRAM = """
import json, sys
rows = [json.loads(line) for line in sys.stdin]
for row in reversed(rows):
    assert row["prompt"] == [{"role": "user", "content": row["reference"] + "?"}], row
    assert row["metadata"] == {"level": row["row"]}, row
    right = row["answer"] == row["reference"]
    print(json.dumps({"row": row["row"], "score": float(right), "credit": 0.5, "more": "words"}))
print()
"""


def score(folder: Path, program: str, seconds: float = 20.0) -> list[Score]:
    (folder / "score.py").write_text(program)
    made = make("command", {"command": [sys.executable, "score.py"], "seconds": seconds}, folder)
    return made.scores(CASES, ["4", "nine"])


def test_a_program_is_told_everything_and_its_scores_are_put_in_order(tmp_path: Path) -> None:
    assert score(tmp_path, PROGRAM) == [Score(1.0, 0.5), Score(0.0, 0.5)]
    assert [path.name for path in tmp_path.iterdir()] == ["score.py"]
    made = make("command", {"command": [sys.executable, "score.py"]}, tmp_path)
    assert prove(made, CASES, seed=0).judged == 2


SAYS = "import sys; sys.stdin.read(); "


@pytest.mark.parametrize(("program", "words"), [
    (SAYS + "print('{\"row\":4,\"score\":1}')", "gives row 7 no score"),
    (SAYS + "print('{\"row\":7,\"score\":1.5}')", "gives row 7 the score 1.5, which is not within 0 and 1"),
    (SAYS + "print('{\"row\":7,\"score\":1,\"credit\":-1}')", "gives row 7 the credit -1"),
    (SAYS + "print('{\"row\":5,\"score\":1}')", "scores row 5, which it was not asked about"),
    (SAYS + "print('{\"row\":7,\"score\":1}\\n' * 2)", "scores row 7 twice"),
    (SAYS + "print('7 1')", "says on line 1 what is no score: '7 1'"),
    (SAYS + "print('{\"row\":7,\"score\":true}')", "what is no score"),
    (SAYS + "sys.exit('no such model')", "ended with code 1: no such model"),
    ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
])
def test_what_is_no_score_is_named(tmp_path: Path, program: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        score(tmp_path, program)
    assert words in str(caught.value)
    assert caught.value.field == "options.command"


def test_one_that_does_not_end_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    program = ("import os, subprocess, time\n"
               "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
               f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{child.pid}} {{os.getpid()}}')\n"
               "time.sleep(600)")
    with pytest.raises(InputError, match="did not end within 2 seconds"):
        score(tmp_path, program, seconds=2.0)
    for pid in map(int, (tmp_path / "pid").read_text().split()):
        wait_for(lambda pid=pid: not is_alive(pid), f"{pid} has gone", 10)


def test_one_that_says_too_much_is_killed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="said more than 64 MiB"):
        score(tmp_path, "while True: print('x' * 1_000_000)")


def test_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    made = make("command", {"command": ["./no-such-program"]}, tmp_path)
    with pytest.raises(InputError, match="no-such-program cannot be run: No such file"):
        made.scores(CASES, ["", ""])


@pytest.mark.parametrize(("options", "words"), [
    ({}, "options.command: it is missing"), ({"command": []}, "options.command: Expected `array` of length >= 1"),
    ({"command": ["x"], "seconds": 0}, "options.seconds"), ({"command": ["x"], "chance": 0.9}, "options.chance"),
    ({"command": ["x"], "argv": 1}, "options.argv: no such option")])
def test_options_that_are_wrong_are_named(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        make("command", options, tmp_path)
    assert words in str(caught.value)
