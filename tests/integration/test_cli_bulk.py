"""Ending or retrying many jobs by filters: what is found, who is asked, and what became of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from places import Place, Worker, jobs_of
from terminals import on_terminal, terminal
from trainq.jobs import JobKind
from trainq.messages import Progress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.fixture
def five(broker: Place, tmp_path: Path) -> Place:
    for name in ("a-1", "a-2", "a-3", "b-1", "b-2"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\n')
    broker.run("submit", str(tmp_path))
    return broker


def test_without_yes_nothing_is_done_where_nobody_can_be_asked(five: Place) -> None:
    out, err = five.run("cancel", "--name", "a-*", code=2)
    assert [line.split()[0] for line in out.splitlines()] == ["job", "train-1", "train-2", "train-3"]
    assert err == ("trainq: it would cancel 3 jobs, and there is nobody to ask "
                   "(the same command with --yes does it)\n")
    document = five.json("cancel", "--name", "a-*", code=2)
    assert (document["would"], document["error"]["code"]) == (["train-1", "train-2", "train-3"], "usage")
    assert set(jobs_of(five).values()) == {"queued"}


def test_with_yes_each_is_done_and_all_are_counted(five: Place) -> None:
    out, err = five.run("cancel", "--name", "a-*", "--state", "queued", "--yes")
    assert out == "train-1  cancelled\ntrain-2  cancelled\ntrain-3  cancelled\n"
    assert err == "trainq: 3 cancelled\n"
    assert five.run("cancel", "--name", "a-*", "--yes") == ("", "trainq: no such jobs\n")
    out, err = five.run("retry", "--state", "cancelled", "--limit", "2", "--yes")
    assert out == "train-1  queued\ntrain-2  queued\n"
    assert err == "trainq: 3 jobs match; these are the oldest 2 (--limit takes more at once)\ntrainq: 2 queued\n"
    assert five.json("cancel", "--older-than", "1h", "--yes")["jobs"] == []
    assert len(five.json("cancel", "--kind", "all", "--older-than", "0.001s", "--yes")["jobs"]) == 4


def test_what_is_refused_is_named_and_stops_nobody(five: Place, worker: Worker, tmp_path: Path) -> None:
    five.run("cancel", "1", "2")
    five.run("submit", str(tmp_path / "a-1.jsonl"))  # its content is in another job now
    out, err = five.run("retry", "--failed", "--yes")
    assert (out, err) == ("", "trainq: no such jobs\n")
    out, err = five.run("retry", "--state", "cancelled", "--yes", code=64)
    assert out == "train-2  queued\n"
    assert "the same content is in train-6" in err
    assert err.endswith("trainq: 1 queued, 1 refused\n")
    for _ in range(2):
        worker.complete(worker.lease(JobKind.PREPARE))
    lease = worker.lease(JobKind.TRAIN)
    worker.beat(lease, Progress())
    assert five.run("cancel", "--state", "running", "--yes")[0] == f"{lease.job}  running: it ends at the next step\n"


@pytest.mark.parametrize(("answer", "done"), [(b"y\n", True), (b"\n", False), (b"no\n", False), (b"\x04", False)])
def test_a_person_is_asked(answer: bytes, done: bool, five: Place) -> None:
    with terminal(100) as made, on_terminal(made, five.environment, "cancel", "--name", "b-?.jsonl") as process:
        text = made.read_until("cancel 2 jobs? [y/N]")
        assert "train-4" in text
        made.press(answer)
        assert process.wait(30) == 0
        assert ("nothing was done" in made.rest()) is not done
    assert jobs_of(five)["train-4"] == ("cancelled" if done else "queued")
    assert jobs_of(five)["train-1"] == "queued"


def test_one_that_has_begun_since_it_was_chosen_is_left_alone(five: Place, worker: Worker) -> None:
    with terminal(100) as made, on_terminal(made, five.environment, "cancel", "--state", "queued", "--name",
                                            "a-*") as process:
        made.read_until("cancel 3 jobs? [y/N]")
        worker.complete(worker.lease(JobKind.PREPARE))
        lease = worker.lease(JobKind.TRAIN)
        made.press(b"y\n")
        assert process.wait(30) == 64
        assert f"{lease.job} is running by now" in made.rest()
    ended = jobs_of(five)
    assert (lease.job, ended["train-1"], ended["train-2"], ended["train-3"]) == ("train-1", "running", "cancelled",
                                                                                 "cancelled")


@pytest.mark.parametrize("words", [
    ("cancel",), ("retry",), ("cancel", "1", "--state", "queued"), ("cancel", "--older-than", "soon"),
    ("retry", "--state", "running"), ("cancel", "1", "--limit", "3"), ("cancel", "--name", "a", "--limit", "0")])
def test_what_makes_no_sense_is_a_mistake_of_the_command_line(words: tuple[str, ...], five: Place) -> None:
    assert json.loads(five.run(*words, "--json", code=2)[0])["error"]["mend"]
    assert set(jobs_of(five).values()) == {"queued"}
