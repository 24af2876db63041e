"""The command line on terminals: tables on narrow ones, the live screen, Tab in a real bash."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from places import Place, Worker
from terminals import on_terminal, terminal
from trainq.cli.rendering import columns_of
from trainq.jobs import JobKind
from trainq.messages import Progress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

_WIDE = "数据-größe-" + "long" * 30 + "\x1b[31m.jsonl"
_TABLES = [("list",), ("list", "--failed"), ("show", "1"), ("status",), ("schedule", "list"), ("events",),
           ("metrics", "2"), ("retention", "plan"), ("retention", "trash"), ("snapshot", "list")]


@pytest.fixture
def wide(broker: Place, worker: Worker, tmp_path: Path) -> Place:
    """With a failed and a running job of names that are wide, long, and try to steer the terminal."""
    for number in range(3):
        (tmp_path / f"{number}{_WIDE}").write_text(f'{{"text": "{number}"}}\n')
    broker.run("submit", *(str(path) for path in sorted(tmp_path.iterdir())))
    for _ in range(3):
        worker.complete(worker.lease(JobKind.PREPARE))
    worker.fail(worker.lease(JobKind.TRAIN), "it failed for a reason that is told in many words, 数据 " * 5)
    lease = worker.lease(JobKind.TRAIN)
    worker.beat(lease, Progress(step=3, steps=9, loss=4.5, learning_rate=1e-4, tokens_per_second=1200.0))
    steps = [{"step": step, "job_step": step, "loss": 5.0 - step, "learning_rate": 1e-4, "grad_norm": 1.0, "tokens": 9,
              "trained_tokens": 9, "seconds": 0.1} for step in range(1, 4)]
    (broker.home.metrics / f"{lease.job}.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return broker


@pytest.mark.parametrize("columns", [40, 100])
def test_every_table_fits_the_terminal(columns: int, wide: Place) -> None:
    wrong = []
    for words in _TABLES:
        with terminal(columns) as made, on_terminal(made, wide.environment, *words) as process:
            out = made.read_until("\n") if words != ("retention", "trash") else ""
            process.wait(30)
            out = made.rest() if not out else out + made.rest()
        lines = [line for line in out.splitlines() if not line.startswith("trainq: ")]
        wrong += [(words, line) for line in lines if columns_of(line) > columns or not line.isprintable()]
        assert b"\x1b[31m.jsonl" not in made.seen
    assert wrong == []


def test_no_colour_reaches_a_pipe_or_who_wants_none(wide: Place) -> None:
    for words in _TABLES:
        assert "\x1b" not in wide.run(*words)[0]
    with terminal() as made, on_terminal(made, wide.environment, "list") as process:
        process.wait(30)
        made.rest()
    assert b"\x1b[" in made.seen
    with terminal() as made:
        done = subprocess.run([sys.executable, "-m", "trainq.cli", "list"], stdout=made.theirs, check=False,
                              env={**wide.environment, "NO_COLOR": "1", "TERM": "xterm"}, timeout=60)
        made.rest()
    assert done.returncode == 0
    assert b"\x1b[" not in made.seen


def test_the_live_screen_shows_what_changes_and_leaves_the_terminal_as_it_was(wide: Place) -> None:
    with terminal(100, 40) as made:
        before = made.modes()
        with on_terminal(made, wide.environment, "watch") as process:
            text = made.read_until("JobSubmitted")
            assert "train-2" in text
            assert "loss 4.000 to 2.000" in text
            assert "broker" in text
            wide.run("pause", "--reason", "dinner\x1b[31m")
            made.read_until(r"dinner\x1b[31m")
            wide.stop("broker", signal.SIGKILL)
            made.read_until("status.json") if wide.home.status_file.exists() else made.read_until("old")
            wide.start("broker")
            wide.run("pause", "--reason", "supper")
            made.read_until("BrokerStarted")
            made.resize(40, 12)
            made.read_until("train")
            assert made.modes() != before
            made.press(b"q")
            assert process.wait(30) == 0
        made.rest()
        assert made.modes() == before
    assert made.seen.rstrip().endswith((b"\x1b[?25h", b"\x1b[?1049l"))
    assert b"\x1b[31m.jsonl" not in made.seen
    assert b"dinner\x1b" not in made.seen
    assert b"Traceback" not in made.seen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_whatever_ends_the_live_screen_the_terminal_is_given_back(number: int, code: int, broker: Place) -> None:
    with terminal() as made:
        before = made.modes()
        with on_terminal(made, broker.environment, "watch") as process:
            made.read_until("broker")
            if number == signal.SIGINT:
                made.press(b"\x03")
            else:
                process.send_signal(number)
            assert process.wait(30) == code
        made.rest()
        assert made.modes() == before
    assert b"\x1b[?1049l" in made.seen
    assert b"Traceback" not in made.seen


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(broker: Place) -> None:
    with terminal() as made:
        before = made.modes()
        with on_terminal(made, broker.environment, "watch") as process:
            made.read_until("broker")
            made.press(b"\x1a")
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            made.rest()
            assert made.modes() == before
            process.send_signal(signal.SIGCONT)
            made.read_until("broker")
            made.press(b"q")
            assert process.wait(30) == 0
        assert made.modes() == before


def test_without_a_terminal_it_is_printed_again_and_again(wide: Place) -> None:
    with wide.running("watch", "--every", "0.2s") as watching:
        assert watching.stdout is not None
        seen = [watching.stdout.readline() for _ in range(40)]
        assert sum(line.startswith("trainq  ") for line in seen) >= 2
        assert not any("\x1b" in line for line in seen)
    with wide.running("watch", "--every", "0.2s", "--json") as watching:
        assert watching.stdout is not None
        document = json.loads(watching.stdout.readline())
        assert (document["source"], document["running"][0]["id"]) == ("broker", "train-2")


def test_without_anybody_it_says_that_nothing_is_known(place: Place) -> None:
    with place.running("watch") as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(3)]
        assert "nothing is known yet" in lines[2]


def completions(place: Place, tmp_path: Path, line: str) -> list[str]:
    """What a real bash offers for a line of which the last word is being typed."""
    program = tmp_path / "bin" / "trainq"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m trainq.cli "$@"\n')
    program.chmod(0o700)
    words = line.split(" ")
    script = (f'eval "$(trainq completion bash)"\nCOMP_WORDS=({" ".join(map(shlex.quote, words))})\n'
              f'COMP_CWORD={len(words) - 1}\n_trainq\nprintf "%s\\n" "${{COMPREPLY[@]}}"\n')
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=60,
                          env={**place.environment, "PATH": f"{program.parent}:{place.environment['PATH']}"})
    assert done.stderr == ""
    return done.stdout.split()


def test_tab_in_a_real_bash(broker: Place, rows: Path, tmp_path: Path) -> None:
    broker.run("submit", str(rows))
    broker.start("status")
    with broker.running("watch", "--json", "--every", "0.1s") as watching:  # until there is a status.json of now
        assert watching.stdout is not None
        while not json.loads(watching.stdout.readline()).get("waiting"):
            pass
    assert completions(broker, tmp_path, "trainq sta") == ["status"]
    assert completions(broker, tmp_path, "trainq cancel --st") == ["--state"]
    assert completions(broker, tmp_path, "trainq cancel --state ") == ["queued", "held", "running"]
    assert completions(broker, tmp_path, "trainq cancel --state = r") == ["running"]
    assert completions(broker, tmp_path, "trainq cancel tr") == ["train-1"]
    assert completions(broker, tmp_path, "trainq snapshot ver") == ["verify"]
    assert completions(broker, tmp_path, "trainq submit /no") == []
    assert completions(broker, tmp_path, "trainq $(touch${IFS}x) ") == []
