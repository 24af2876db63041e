"""The real fork server and the real training process: killed, stopped, cancelled, orphaned, and always exact."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
import pytest
import torch
from transformers import LlamaConfig

from services.trainer import wire
from services.trainer.child import ChildExited, TrainingChild
from services.trainer.forking import Arguments
from tests.generations import bits_of
from trainq import builtin, checkpoints, files
from trainq.config import Home, TrainSettings
from trainq.jobs import Store
from trainq.ml import model
from trainq.shards import Shard, ShardWriter

# 3 steps an epoch of a few milliseconds each: long enough to be met in the middle, short enough for a test.
SETTINGS = TrainSettings(epochs=150, batch_rows=3, micro_batch_rows=2, learning_rate=1e-3, warmup_steps=4, threads=1,
                         checkpoint_seconds=0.05, checkpoint_max_share=1.0)
STEPS = 450
PATIENCE_SECONDS = 60.0

Heard = list[wire.FromTraining | ChildExited]
Message = TypeVar("Message")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model.silence_libraries()
    folder = tmp_path_factory.mktemp("tiny-model")
    torch.manual_seed(11)
    made = model.make(LlamaConfig(
        vocab_size=262, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, attention_dropout=0.1, pad_token_id=256,
        bos_token_id=257, eos_token_id=258))
    model.save(made, model.read_companions(builtin.folder()), folder)
    return folder


class Agent:
    """What the trainer's agent does with its child, without a broker."""

    def __init__(self, child: TrainingChild, home: Home, tiny_model: Path) -> None:
        self.child, self.home = child, home
        self.arguments = Arguments(home=str(home.root), model=str(tiny_model), threads=1, seed=3,
                                    log=str(home.logs / "training-process.log"))
        self.heard: Heard = []

    @property
    def pid(self) -> int:
        return self.child.pid

    def start(self) -> wire.Ready:
        self.child.arguments = self.arguments
        self.child.start()
        ready = self.until(wire.Ready)
        if ready.begun:
            self.child.send(wire.Begin())
            ready = self.until(wire.Ready)
        return ready

    def until(self, kind: type[Message], condition: Callable[[Message], bool] = lambda _: True) -> Message:
        """Wait for a message of that kind; everything heard meanwhile is kept in ``heard``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            select.select(self.child.descriptors(), [], [], left)
            said = self.child.receive()
            self.heard += said
            for message in said:
                if isinstance(message, kind) and condition(message):
                    return message
            if any(isinstance(message, ChildExited) for message in said):
                pytest.fail(f"it ended instead: {said}")
        pytest.fail(f"no {kind.__name__} within {PATIENCE_SECONDS:g} s")

    def train(self, shard: Path, job: str, settings: TrainSettings = SETTINGS) -> None:
        with Shard.open(shard, verify=False) as opened:
            digest = opened.digest
        self.child.send(wire.Train(job=job, token=1, shard=str(shard), shard_digest=digest, settings=settings,
                                    journal_seq=7))

    def step(self, at_least: int) -> wire.Progress:
        return self.until(wire.Progress, lambda message: message.job_step >= at_least)

    def send(self, message: wire.ToTraining) -> None:
        self.child.send(message)

    def kill(self) -> ChildExited:
        self.child.kill()
        return self.until(ChildExited)

    def stop(self) -> ChildExited:
        self.child.send(wire.Stop())
        return self.until(ChildExited)


def make_shard(home: Home, name: str, lengths: Sequence[int] = (5, 9, 3, 12, 7, 4, 8)) -> Path:
    path = home.cache / name
    with files.publish_directory(path) as folder, ShardWriter(folder, key=name, context_tokens=1024) as writer:
        for index, length in enumerate(lengths):
            tokens = [(index * 31 + at * at * 7 + len(name)) % 262 for at in range(length)]
            writer.append(tokens, [at >= length // 3 for at in range(length)], bytes([index]) * 32, index + 1)
        writer.seal(b"{}")
    return path


def make_home(root: Path) -> Home:
    home = Home(root)
    for folder in home.folders():
        files.make_directory(folder)
    return home


@pytest.fixture(scope="module")
def child() -> Iterator[TrainingChild]:
    """One fork server for all tests; each forks a training process of its own."""
    made = TrainingChild(Arguments(home="", model="", threads=1, seed=0, log=""))
    yield made
    made.close()


@pytest.fixture
def agent(child: TrainingChild, tmp_path: Path, tiny_model: Path) -> Iterator[Agent]:
    made = Agent(child, make_home(tmp_path / "home"), tiny_model)
    yield made
    if made.pid:
        made.kill()


def head(home: Home) -> checkpoints.Verified:
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    assert damaged == []
    return found


def digests(home: Home) -> dict[str, str]:
    return bits_of(head(home).manifest)


def metric_lines(home: Home, job: str) -> list[dict[str, float]]:
    lines = [msgspec.json.decode(text) for text in (home.metrics / f"{job}.jsonl").read_bytes().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


def test_killed_again_and_again_it_ends_as_if_undisturbed(
        child: TrainingChild, agent: Agent, tmp_path: Path, tiny_model: Path) -> None:
    calm = Agent(child, make_home(tmp_path / "calm"), tiny_model)
    calm.start()
    calm.train(make_shard(calm.home, "shard"), "job-1")
    finished = calm.until(wire.Finished)
    assert (finished.steps_done, finished.steps_planned) == (STEPS, STEPS)
    assert calm.stop().status == 0

    shard = make_shard(agent.home, "shard")
    resumed_at = []
    for _ in range(2):
        resumed_at.append(agent.start().step)
        agent.train(shard, "job-1")
        published = agent.until(wire.Published, lambda message: message.reason == "interval")
        agent.step(published.job_step + 2)  # steps that die with it
        assert agent.kill().how == "signal 9"
        # What a writer that is killed leaves behind.
        (agent.home.checkpoints / f"{files.TEMPORARY_PREFIX}left").mkdir()
    resumed_at.append(agent.start().step)
    agent.train(shard, "job-1")
    finished = agent.until(wire.Finished)
    assert resumed_at[0] == 0
    assert sorted(set(resumed_at)) == resumed_at, "every life got further"
    assert digests(agent.home) == digests(calm.home)
    assert metric_lines(agent.home, "job-1") == metric_lines(calm.home, "job-1")
    assert (finished.first_loss, finished.last_loss) == (
        metric_lines(calm.home, "job-1")[0]["loss"], metric_lines(calm.home, "job-1")[-1]["loss"])
    assert not list(agent.home.checkpoints.glob(f"{files.TEMPORARY_PREFIX}*"))


def test_a_stop_saves_and_the_next_process_goes_on_at_the_next_step(agent: Agent) -> None:
    shard = make_shard(agent.home, "shard")
    agent.start()
    agent.train(shard, "job-1", msgspec.structs.replace(SETTINGS, checkpoint_seconds=600))
    agent.step(20)
    assert agent.stop() == ChildExited(pid=agent.heard[-1].pid, status=0, how="exit 0")  # type: ignore[union-attr]
    published = [message for message in agent.heard if isinstance(message, wire.Published)]
    assert [message.reason for message in published] == ["stop"]
    last = [message for message in agent.heard if isinstance(message, wire.Progress)][-1]
    assert (published[-1].job_step, published[-1].done) == (last.job_step, False)

    ready = agent.start()
    assert (ready.step, ready.job, ready.job_done, ready.journal_seq) == (last.job_step, "job-1", False, 7)
    agent.train(shard, "job-1")
    assert agent.until(wire.Progress).job_step == last.job_step + 1


def test_a_cancelled_job_leaves_nothing_and_the_next_one_follows_in_the_same_process(agent: Agent) -> None:
    agent.start()
    first, second = make_shard(agent.home, "first"), make_shard(agent.home, "second!")
    agent.train(first, "job-1", msgspec.structs.replace(SETTINGS, epochs=2))
    agent.until(wire.Finished)
    before, before_digests, pid = head(agent.home), digests(agent.home), agent.pid
    agent.train(second, "job-2", msgspec.structs.replace(SETTINGS, checkpoint_seconds=1e-6))
    agent.step(5)
    agent.send(wire.Cancel(job="job-2"))
    cancelled = agent.until(wire.Cancelled)
    assert cancelled.taken_back >= 5
    assert digests(agent.home) == before_digests
    assert head(agent.home).facts.generation > before.facts.generation + 1
    assert head(agent.home).facts.cursor == before.facts.cursor
    # Cancelled again while idle: the same answer, nothing published. A finished job cannot be cancelled any more.
    agent.send(wire.Cancel(job="job-2"))
    assert agent.until(wire.Cancelled).taken_back == 0
    agent.send(wire.Cancel(job="job-1"))
    assert agent.until(wire.Finished).job == "job-1"
    agent.train(second, "job-3", msgspec.structs.replace(SETTINGS, epochs=1))
    finished = agent.until(wire.Finished)
    assert (finished.job, finished.global_step, agent.pid) == ("job-3", 6 + 3, pid)


def test_a_job_that_cannot_be_trained_fails_and_the_process_lives_on(agent: Agent) -> None:
    agent.start()
    shard = make_shard(agent.home, "shard")
    damaged = make_shard(agent.home, "damaged")
    content = bytearray((damaged / "tokens.bin").read_bytes())
    content[8] ^= 1
    (damaged / "tokens.bin").write_bytes(content)
    agent.train(damaged, "job-1")
    failed = agent.until(wire.Failed)
    assert (failed.job, failed.system, failed.code) == ("job-1", True, "shard_lost")
    # Rows longer than the model's context are the job's fault; the agent then has its steps taken back.
    agent.train(make_shard(agent.home, "long", lengths=(3, 65)), "job-2")
    failed = agent.until(wire.Failed)
    assert (failed.job, failed.system, failed.code) == ("job-2", False, "input")
    agent.send(wire.Cancel(job="job-2"))
    assert agent.until(wire.Cancelled).taken_back == 0
    agent.train(shard, "job-3", msgspec.structs.replace(SETTINGS, epochs=1))
    assert agent.until(wire.Finished).global_step == 3


def test_an_agent_that_does_not_read_stops_no_training(agent: Agent) -> None:
    agent.start()
    agent.train(make_shard(agent.home, "shard"), "job-1",
                msgspec.structs.replace(SETTINGS, epochs=200, checkpoint_seconds=0.5))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not head(agent.home).facts.cursor.done:
        assert time.monotonic() < deadline
        select.select([], [], [], 0.1)
    assert agent.until(wire.Finished).steps_done == 600
    generations = [message.generation for message in agent.heard if isinstance(message, wire.Published)]
    assert generations == list(range(2, len(generations) + 2)), "only progress may be dropped"


def test_signals_for_the_agent_do_not_end_it(agent: Agent) -> None:
    agent.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(agent.pid, number)
    agent.train(make_shard(agent.home, "shard"), "job-1", msgspec.structs.replace(SETTINGS, epochs=1))
    assert agent.until(wire.Finished).steps_done == 3


def test_a_successor_waits_for_the_lock(agent: Agent, tiny_model: Path) -> None:
    agent.start()
    second_child = TrainingChild(Arguments(home="", model="", threads=1, seed=0, log=""))
    second = Agent(second_child, agent.home, tiny_model)
    try:
        second_child.arguments = second.arguments
        second_child.start()
        while not second.pid:
            select.select(second_child.descriptors(), [], [], PATIENCE_SECONDS)
            assert second_child.receive() == []
        select.select(second_child.descriptors(), [], [], 0.5)
        assert second_child.receive() == [], "it must not be ready while the first one lives"
        agent.kill()
        ready = second.until(wire.Ready)
        assert (ready.generation, ready.begun) == (1, False)
    finally:
        second_child.close()


def test_when_no_checkpoint_verifies_it_refuses_to_begin_anew(agent: Agent) -> None:
    agent.start()
    agent.stop()
    (path,) = checkpoints.list_generations(agent.home.checkpoints)
    (path / "config.json").write_bytes(b"{}")
    agent.child.start()
    assert "none of its checkpoints verifies" in agent.until(wire.NoLine).reason
    agent.send(wire.Restore(job="restore-1", store=Store.SNAPSHOTS, name="g000001-s00000000", journal_seq=1))
    failed = agent.until(wire.Failed)
    assert (failed.job, failed.code) == ("restore-1", "not_found")
    agent.send(wire.Cancel(job="restore-2"))
    assert agent.until(wire.Cancelled).job == "restore-2"
    assert agent.stop().status == 0
    assert checkpoints.list_generations(agent.home.checkpoints) == [path]


def test_a_new_line_is_published_when_it_is_told_to_and_not_before(agent: Agent) -> None:
    agent.child.arguments = agent.arguments
    agent.child.start()
    ready = agent.until(wire.Ready)
    assert (ready.begun, ready.generation) == (True, 0)
    assert checkpoints.list_generations(agent.home.checkpoints) == []
    agent.kill()
    assert agent.start().generation == 1
    assert head(agent.home).facts.reason == "initial"


def test_a_ground_that_does_not_verify_is_set_aside_with_all_that_was_built_on_it(agent: Agent) -> None:
    agent.start()
    shard = make_shard(agent.home, "shard")
    # Without a checkpoint in between, however slow the machine.
    agent.train(shard, "job-1", msgspec.structs.replace(SETTINGS, epochs=1, checkpoint_seconds=600))
    agent.until(wire.Finished)
    ground = head(agent.home)
    assert ground.facts.generation == 2
    agent.train(make_shard(agent.home, "second!"), "job-2", msgspec.structs.replace(SETTINGS, checkpoint_seconds=1e-6))
    agent.step(3)
    weights = ground.path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    agent.send(wire.Cancel(job="job-2"))
    failed = agent.until(wire.Failed)
    assert (failed.job, failed.system, failed.code) == ("job-2", True, "damage")
    assert agent.until(ChildExited).status == 74
    ready = agent.start()
    assert (ready.generation, ready.job) == (1, "")
    assert {entry.generation for entry in ready.damaged} == set(range(2, max(
        entry.generation for entry in ready.damaged) + 1)), "the ground, and every one that stands on it"


def test_a_ground_that_is_missing_is_not_damaged_and_nothing_is_set_aside(agent: Agent) -> None:
    agent.start()
    agent.train(make_shard(agent.home, "shard"), "job-1",
                msgspec.structs.replace(SETTINGS, epochs=1, checkpoint_seconds=600))
    agent.until(wire.Finished)
    ground, away = head(agent.home), agent.home.root / "away"
    agent.train(make_shard(agent.home, "second!"), "job-2", msgspec.structs.replace(SETTINGS, checkpoint_seconds=1e-6))
    agent.step(3)
    ground.path.rename(away)
    agent.send(wire.Cancel(job="job-2"))
    failed = agent.until(wire.Failed)
    assert (failed.job, failed.system, failed.code) == ("job-2", True, "storage")
    agent.until(ChildExited)
    assert checkpoints.list_set_aside(agent.home.checkpoints) == []
    away.rename(ground.path)
    assert agent.start().job == "job-2"
    agent.send(wire.Cancel(job="job-2"))
    agent.until(wire.Cancelled)
    assert head(agent.home).facts.cursor == ground.facts.cursor


def test_another_fingerprint_waits_until_it_is_recorded(agent: Agent) -> None:
    agent.start()
    shard = make_shard(agent.home, "shard")
    agent.train(shard, "job-1", msgspec.structs.replace(SETTINGS, epochs=20, checkpoint_seconds=1e-6))
    agent.until(wire.Published)
    agent.kill()
    agent.start()
    settings = msgspec.structs.replace(SETTINGS, epochs=20, threads=2)
    agent.train(shard, "job-1", settings)
    changed = agent.until(wire.OtherFingerprint)
    assert (changed.before["threads"], changed.after["threads"]) == ("1", "2")
    select.select(agent.child.descriptors(), [], [], 0.5)
    assert agent.child.receive() == [], "no step before it is in the journal"
    agent.send(wire.Recorded(job="job-1"))
    agent.until(wire.Finished)


def test_a_stop_wins_over_waiting_for_the_record(agent: Agent) -> None:
    agent.start()
    shard = make_shard(agent.home, "shard")
    agent.train(shard, "job-1", msgspec.structs.replace(SETTINGS, checkpoint_seconds=1e-6))
    agent.until(wire.Published)
    agent.kill()
    before = head(agent.home).facts
    agent.start()
    agent.train(shard, "job-1", msgspec.structs.replace(SETTINGS, threads=2))
    agent.until(wire.OtherFingerprint)
    assert agent.stop().status == 0
    assert head(agent.home).facts == before, "nothing was computed"


def test_where_a_gpu_is_required_nothing_is_computed_on_the_processor(agent: Agent) -> None:
    """Whatever NVML says: what counts is what torch has chosen, which is the processor here."""
    agent.arguments = msgspec.structs.replace(agent.arguments, gpu_required=True)
    agent.child.arguments = agent.arguments
    agent.child.start()
    failed = agent.until(wire.Failed)
    assert (failed.system, failed.job, failed.code) == (True, "", "no_gpu")
    assert "torch computes on the cpu, and a GPU is required" in failed.reason
    assert not any(isinstance(message, wire.Ready) for message in agent.heard)
    assert checkpoints.list_generations(agent.home.checkpoints) == []


def test_a_fork_server_that_hangs_before_it_has_forked_is_ended(tmp_path: Path, tiny_model: Path) -> None:
    child = TrainingChild(Arguments(home="", model="", threads=1, seed=0, log=""))
    agent = Agent(child, make_home(tmp_path / "home"), tiny_model)
    try:
        child.arguments = agent.arguments
        child.start()
        assert agent.pid == 0
        child.kill()
        assert agent.until(ChildExited).how == "the fork server ended: signal 9"
        assert agent.start().generation == 1
    finally:
        child.close()


OWNER = textwrap.dedent("""
    import select, sys
    from services.trainer import wire
    from services.trainer.child import TrainingChild
    from services.trainer.forking import Arguments

    home, model = sys.argv[1:]
    child = TrainingChild(Arguments(home=home, model=model, threads=1, seed=3, log=home + "/logs/t.log"))
    child.start()
    while not any(isinstance(message, wire.Ready) for message in child.receive()):
        select.select(child.descriptors(), [], [])
    sys.stdout.write(f"{child.pid}\\n")
    sys.stdout.flush()
    sys.stdin.read()
""")


def test_when_the_owner_dies_both_die_and_no_thread_was_forked(tmp_path: Path, tiny_model: Path) -> None:
    home = make_home(tmp_path / "home")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(home.root), str(tiny_model)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert owner.stdout is not None
    assert owner.stdin is not None
    training = psutil.Process(int(owner.stdout.readline()))
    (server,) = psutil.Process(owner.pid).children()
    assert training.ppid() == server.pid
    assert os.getpgid(training.pid) == training.pid, "a group of its own, to be killed whole"
    assert server.num_threads() == 1, "fork copies only the thread that forks"
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs([server, training], timeout=10)
    assert alive == []
    owner.stdout.close()
    owner.stdin.close()
