"""Training is exact: stopped and resumed anywhere it ends as if undisturbed; every row counts once an epoch."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.generations import bits_of
from tests.unit.trainq.ml.tiny import LENGTHS, SETTINGS, MakeShard, Script, job_over, start, train
from trainq import checkpoints, diskfaults, files, manifests
from trainq.checkpoints import Cursor, Verified
from trainq.config import Home, TrainSettings
from trainq.errors import DamageError, InputError, OtherModelError, StorageError, StorageFullError
from trainq.ml import checkpointing
from trainq.ml.checkpointing import Publication
from trainq.ml.line import ModelLine
from trainq.ml.metrics import MetricsFile, StepMetrics
from trainq.ml.training import Ending, Wish
from trainq.shards import ShardWriter
from trainq.textcodec import TextCodec

STEPS = 6  # of a job over LENGTHS under SETTINGS


def head(home: Home) -> Verified:
    found, _ = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    return found


def digests(home: Home) -> dict[str, str]:
    return bits_of(head(home).manifest)


def metric_lines(home: Home, job: str = "job-1") -> list[dict[str, float]]:
    timeless = []
    for text in (home.metrics / f"{job}.jsonl").read_bytes().splitlines():
        line = msgspec.json.decode(text)
        del line["seconds"]
        timeless.append(line)
    return timeless


def test_a_job_trains_to_its_end(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    outcome, script = train(start(tiny_model, home), job_over(make_shard(LENGTHS)), home)
    assert (outcome.ending, outcome.first_loss, outcome.last_loss) == (
        Ending.FINISHED, script.losses[0], script.losses[-1])
    facts = head(home).facts
    assert (facts.step, facts.rows_seen, facts.tokens_seen) == (STEPS, 14, 2 * sum(LENGTHS))
    assert (facts.cursor.job_step, facts.cursor.steps_planned, facts.cursor.done) == (STEPS, STEPS, True)
    assert (facts.reason, facts.journal_seq, facts.base) == ("job_end", 40, "g000001-s00000000")
    assert facts.metrics == {"loss": script.losses[-1],
                             "loss_mean": pytest.approx(sum(script.losses) / STEPS)}
    assert [metrics.learning_rate for metrics in script.steps] == [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01]
    assert script.losses[-1] < script.losses[0]


def test_the_last_partial_batch_is_trained(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    _, script = train(start(tiny_model, home), job_over(make_shard((4, 4, 4, 4, 4, 4, 4))), home)
    assert [metrics.tokens for metrics in script.steps] == [12, 12, 4, 12, 12, 4]


@pytest.fixture
def shard(make_shard: MakeShard) -> Path:
    return make_shard(LENGTHS)


@pytest.fixture
def undisturbed(tiny_model: Path, tmp_path: Path, shard: Path) -> dict[str, object]:
    """What an undisturbed run of the job over ``shard`` gives, in a home of its own."""
    elsewhere = Home(tmp_path / "undisturbed")
    for folder in elsewhere.folders():
        folder.mkdir(parents=True, exist_ok=True)
    train(start(tiny_model, elsewhere), job_over(shard), elsewhere)
    return everything(elsewhere)


def everything(home: Home) -> dict[str, object]:
    return {"digests": digests(home), "metrics": metric_lines(home), "in_facts": head(home).facts.metrics}


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_stopped_and_resumed_is_undisturbed(tiny_model: Path, home: Home, shard: Path, stop_at: int,
                                            undisturbed: dict[str, object]) -> None:
    job = job_over(shard)
    outcome, first = train(start(tiny_model, home), job, home, Script(at=stop_at))
    assert outcome.ending is Ending.STOPPED
    assert (head(home).facts.reason, head(home).facts.cursor.done) == ("stop", False)
    torch.manual_seed(999)  # nothing of this process may matter
    outcome, second = train(checkpointing.restore(head(home)), job, home)
    assert outcome.ending is Ending.FINISHED
    assert (len(first.steps), len(second.steps)) == (stop_at, STEPS - stop_at)
    assert digests(home) == undisturbed["digests"]
    assert head(home).facts.metrics == undisturbed["in_facts"]
    assert metric_lines(home) == undisturbed["metrics"]


def test_steps_after_the_last_checkpoint_are_done_again_and_counted_once(
        tiny_model: Path, home: Home, shard: Path, undisturbed: dict[str, object]) -> None:
    job = job_over(shard)
    train(start(tiny_model, home), job, home, Script(at=2))
    # The next life does two steps that no checkpoint covers, and its last line is torn.
    train(checkpointing.restore(head(home)), job, home, Script(at=4, what=Wish.CANCEL))
    with (home.metrics / "job-1.jsonl").open("ab") as stream:
        stream.write(b'{"step":5,"job_')
    train(checkpointing.restore(head(home)), job, home)
    assert [line["job_step"] for line in metric_lines(home)] == [1, 2, 3, 4, 5, 6]
    assert everything(home) == undisturbed


def test_two_files_are_one_line(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    train(line, job_over(make_shard(LENGTHS, "a"), "job-1"), home)
    adam_steps = optimizer_steps(line)
    _, script = train(line, job_over(make_shard(LENGTHS, "b"), "job-2"), home)
    assert [(metrics.step, metrics.job_step) for metrics in script.steps] == [
        (STEPS + done, done) for done in range(1, STEPS + 1)]
    assert {metrics.learning_rate for metrics in script.steps} == {SETTINGS.learning_rate}
    assert (adam_steps, optimizer_steps(line)) == ({STEPS}, {2 * STEPS})
    facts = head(home).facts
    assert (facts.generation, facts.step, facts.cursor.job) == (3, 2 * STEPS, "job-2")
    assert facts.parent == facts.base == checkpoints.list_generations(home.checkpoints)[1].name


def optimizer_steps(line: ModelLine) -> set[int]:
    return {int(state["step"]) for state in line.optimizer.state.values()}


def test_a_finished_job_takes_no_further_step(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    job = job_over(make_shard(LENGTHS))
    _, script = train(start(tiny_model, home), job, home)
    outcome, again = train(checkpointing.restore(head(home)), job, home)
    assert (outcome.ending, again.steps, again.publications) == (Ending.FINISHED, [], [])
    assert (outcome.first_loss, outcome.last_loss) == (script.losses[0], script.losses[-1])


def test_a_stop_before_the_first_step_publishes_nothing(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    outcome, script = train(start(tiny_model, home), job_over(make_shard(LENGTHS)), home, Script(at=0))
    assert (outcome.ending, outcome.first_loss, script.publications) == (Ending.STOPPED, None, [])


def test_checkpoints_come_by_the_clock(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    settings = msgspec.structs.replace(SETTINGS, checkpoint_seconds=1e-9, checkpoint_max_share=1.0)
    line = start(tiny_model, home)
    _, script = train(line, job_over(make_shard(LENGTHS), settings=settings), home, Script(line=line))
    assert [publication.facts.reason for publication in script.publications] == ["interval"] * 5 + ["job_end"]
    assert {publication.facts.base for publication in script.publications} == {"g000001-s00000000"}


@pytest.mark.parametrize("micro_batch_rows", [1, 2])
def test_accumulation_equals_the_big_batch(tiny_model: Path, home: Home, make_shard: MakeShard,
                                           micro_batch_rows: int) -> None:
    """Rows of very different length: the mean is over the step's tokens, not over micro-batches."""
    shard = make_shard((3, 40, 5, 21))

    def weights(rows: int) -> tuple[list[float], torch.Tensor]:
        settings = TrainSettings(epochs=2, batch_rows=4, micro_batch_rows=rows, learning_rate=1e-3, threads=1)
        line = start(tiny_model, home)
        line.model.config._attn_implementation = "sdpa"
        for layer in line.model.model.layers:
            layer.self_attn.attention_dropout = 0.0
        _, script = train(line, job_over(shard, f"job-{rows}", settings), home)
        return script.losses, torch.cat([parameter.detach().flatten() for parameter in line.model.parameters()])

    big_losses, big = weights(4)
    losses, accumulated = weights(micro_batch_rows)
    assert losses == pytest.approx(big_losses, rel=1e-5)
    torch.testing.assert_close(accumulated, big, rtol=1e-4, atol=1e-5)


def test_rows_longer_than_the_context_are_the_jobs_fault(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    with pytest.raises(InputError, match="65 tokens, the model takes 64"):
        train(start(tiny_model, home), job_over(make_shard((3, 65))), home)


def test_an_empty_shard_is_not_done(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    with pytest.raises(InputError, match="no row"):
        train(start(tiny_model, home), job_over(make_shard(())), home)


def test_another_shard_under_the_job_is_refused(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    job = job_over(make_shard(LENGTHS))
    train(line, job, home, Script(at=2))
    with pytest.raises(InputError, match="began with shard"):
        train(line, job_over(make_shard(LENGTHS[:-1], "other")), home)
    with pytest.raises(DamageError, match="the job asks for"):
        train(line, replace(job, shard_digest="cd" * 32), home)


def test_a_shard_of_another_tokenizer_is_refused(tiny_model: Path, home: Home) -> None:
    line = start(tiny_model, home)
    own = TextCodec.load(home.checkpoints / head(home).facts.name).digest
    for name, codec in (("own", own), ("other", "f" * 64)):
        with files.publish_directory(home.cache / name) as folder, \
                ShardWriter(folder, key=name, context_tokens=64, codec=codec) as writer:
            writer.append([1, 2, 3, 4], [False, True, True, True], bytes(32), 1)
            writer.seal(b"{}")
    assert train(line, job_over(home.cache / "own"), home)[0].ending is Ending.FINISHED
    with pytest.raises(OtherModelError, match="tokenizer"):
        train(line, job_over(home.cache / "other", "job-2"), home)


@pytest.mark.slow
def test_weights_that_were_spoiled_before_the_job_are_read_again(tiny_model: Path, home: Home,
                                                                 make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    with torch.no_grad():
        line.model.model.norm.weight.fill_(float("inf"))
    outcome, script = train(line, job_over(make_shard(LENGTHS)), home)
    assert (outcome.ending, script.decided, len(script.taken_backs)) == (Ending.FINISHED, [], 1)


def test_a_damaged_checkpoint_is_passed_over_and_training_goes_on_from_the_one_before(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    job = job_over(make_shard(LENGTHS))
    line = start(tiny_model, home)
    train(line, job, home, Script(at=2))
    train(line, job, home, Script(at=4))
    weights = head(home).path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 4
    weights.write_bytes(content)
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    assert [error.path for error in damaged] == [str(weights)]
    _, script = train(checkpointing.restore(found), job, home)
    assert [metrics.job_step for metrics in script.steps] == [3, 4, 5, 6]
    assert (head(home).facts.generation, head(home).facts.parent) == (4, found.facts.name)


def test_checkpoints_come_by_steps(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    settings = msgspec.structs.replace(SETTINGS, checkpoint_steps=2)
    line = start(tiny_model, home)
    job = job_over(make_shard(LENGTHS), settings=settings)
    _, script = train(line, job, home, Script(at=3))
    assert [(publication.facts.step, publication.facts.reason) for publication in script.publications] == [
        (2, "interval"), (3, "stop")]
    # Counted from the last publication, whoever made it.
    _, script = train(checkpointing.restore(head(home)), job, home)
    assert [(publication.facts.step, publication.facts.reason) for publication in script.publications] == [
        (5, "interval"), (6, "job_end")]


class Slow(Script):
    """A disk that takes what is written beside the steps only once ``until`` steps are done, or the loop waits for it.

    With ``error`` it then fails instead.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, until: int = -1, error: str = "", **script: Any) -> None:
        super().__init__(**script)
        self._until, self._go_on = until, threading.Event()
        sync = MetricsFile.sync

        def synced(file: MetricsFile) -> None:
            if threading.current_thread() is not threading.main_thread():
                self._go_on.wait()
                if error:
                    diskfaults.arm(error, 1, for_ever=False)
            sync(file)

        monkeypatch.setattr(MetricsFile, "sync", synced)

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        super().stepped(metrics, cursor)
        if cursor.job_step == self._until:
            self._go_on.set()

    def publishing(self, size_bytes: int, *, waits: bool) -> None:
        super().publishing(size_bytes, waits=waits)
        if waits:
            self._go_on.set()


EAGER = msgspec.structs.replace(SETTINGS, checkpoint_steps=1, checkpoint_max_share=1.0)


def test_steps_go_on_beside_a_slow_disk_and_the_next_checkpoint_is_put_off(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch,
        undisturbed: dict[str, object]) -> None:
    slow = Slow(monkeypatch)
    train(start(tiny_model, home), job_over(shard, settings=EAGER), home, slow)
    assert [(publication.facts.reason, publication.facts.step) for publication in slow.publications] == [
        ("interval", 1), ("job_end", 6)]
    first, last = (publication.facts for publication in slow.publications)
    assert (last.parent, last.generation) == (first.name, first.generation + 1)
    assert everything(home) == undisturbed


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_disk_that_fails_beside_the_steps_ends_the_training_at_the_next_one(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch, error: str,
        undisturbed: dict[str, object]) -> None:
    line = start(tiny_model, home)
    slow = Slow(monkeypatch, until=3, error=error)
    with pytest.raises((StorageError, StorageFullError)):
        train(line, job_over(shard, settings=EAGER), home, slow)
    assert diskfaults.disarm()[1] == 1
    assert 3 <= len(slow.steps) < STEPS
    assert (slow.publications, head(home).facts.reason) == ([], "initial")
    monkeypatch.undo()
    train(checkpointing.restore(head(home)), job_over(shard), home)
    assert everything(home) == undisturbed


def test_a_disk_that_fails_is_not_hidden_by_a_job_that_does(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Slow):
        def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
            super().stepped(metrics, cursor)
            if cursor.job_step == 2:
                raise InputError("the file's fault")

    with pytest.raises(StorageError) as caught:
        train(start(tiny_model, home), job_over(shard, settings=EAGER), home, Failing(monkeypatch, error="EIO"))
    assert diskfaults.disarm()[1] == 1
    assert isinstance(caught.value.__context__, InputError)


@pytest.mark.slow
@pytest.mark.parametrize("what", [Wish.STOP, Wish.CANCEL])
def test_a_job_that_is_left_while_a_checkpoint_is_written_lets_it_end_first(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch, what: Wish,
        undisturbed: dict[str, object]) -> None:
    line = start(tiny_model, home)
    initial, job = digests(home), job_over(shard, settings=EAGER)
    slow = Slow(monkeypatch, at=3, what=what)
    train(line, job, home, slow)
    assert not line.writer.is_busy
    assert [(publication.facts.reason, publication.facts.step) for publication in slow.publications] == [
        ("interval", 1), *([("stop", 3)] if what is Wish.STOP else [])]
    assert head(home).facts == line.head
    monkeypatch.undo()
    if what is Wish.CANCEL:
        line, publication = checkpointing.take_back(line, home)
        assert publication is not None
        assert (publication.facts.generation, digests(home)) == (3, initial)
    train(line, job, home)
    assert everything(home) == undisturbed


def test_a_stop_at_the_step_that_is_being_written_writes_it_once(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, at=1)
    train(start(tiny_model, home), job_over(shard, settings=EAGER), home, slow)
    assert [publication.facts.reason for publication in slow.publications] == ["interval"]


def test_what_a_checkpoint_has_cost_puts_the_next_one_off(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = start(tiny_model, home)
    costs = {2: 3600.0, 5: 1e-9}  # by generation
    take = checkpointing.Beside.take

    def taken(self: checkpointing.Beside, *, wait: bool) -> Publication | None:
        publication = take(self, wait=wait)
        return publication and replace(publication, cost_seconds=costs.get(publication.facts.generation, 1e-9))

    monkeypatch.setattr(checkpointing.Beside, "take", taken)
    settings = msgspec.structs.replace(EAGER, checkpoint_max_share=0.05)
    _, script = train(line, job_over(shard, settings=settings), home, Script(line=line))
    assert [(publication.facts.reason, publication.facts.step) for publication in script.publications] == [
        ("interval", 1), ("job_end", 6)]
    costs.clear()
    _, script = train(line, job_over(shard, "job-1b", settings), home, Script(line=line))
    assert len(script.publications) == 1, "the next job knows what it has cost, too"
    line.checkpoint_cost_seconds = 0.0
    _, script = train(line, job_over(shard, "job-2", settings), home, Script(line=line))
    assert len(script.publications) == 6


@pytest.mark.slow
def test_a_generation_that_the_journal_knows_is_not_published_again(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    line.generation_floor = 20
    train(line, job_over(make_shard(LENGTHS)), home, Script(at=2))
    assert head(home).facts.name == "g000021-s00000002"
    line, publication = checkpointing.take_back(line, home)
    assert publication is not None
    assert (publication.facts.generation, line.generation_floor) == (22, 20)


def changed_head(line: ModelLine, **changes: str) -> None:
    """As if the head had been computed on something else."""
    assert line.head is not None
    line.head = msgspec.structs.replace(line.head, fingerprint={**line.head.fingerprint, **changes})


def test_the_same_machine_has_nothing_to_tell(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    shard = make_shard(LENGTHS)
    for job in ("job-1", "job-2"):
        assert train(line, job_over(shard, job), home, Script(at=2))[1].changes == []
        assert train(checkpointing.restore(head(home)), job_over(shard, job), home)[1].changes == []
        line = checkpointing.restore(head(home))


def test_another_torch_or_device_is_told_once_before_the_first_step(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    changed_head(line, torch="1.0", threads="99")
    now = head(home).facts.fingerprint
    job = job_over(make_shard(LENGTHS))
    _, script = train(line, job, home, Script(at=2))
    # Fresh weights do not depend on the number of threads.
    assert script.changes == [({"torch": "1.0"}, {"torch": now["torch"]})]
    _, script = train(line, job, home)
    assert script.changes == []


def test_threads_count_inside_a_job_and_where_it_does_not_pin_them(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    shard = make_shard(LENGTHS)
    line = start(tiny_model, home)
    train(line, job_over(shard), home, Script(at=2))
    changed_head(line, threads="99")
    _, script = train(line, job_over(shard), home)
    assert script.changes == [({"threads": "99"}, {"threads": "1"})]
    for job, threads, told in (("job-2", 1, False), ("job-3", 0, True)):
        changed_head(line, threads="99")
        settings = msgspec.structs.replace(SETTINGS, threads=threads)
        _, script = train(line, job_over(shard, job, settings), home)
        assert bool(script.changes) is told


def test_the_instructions_for_16_bits_count_where_they_are_used(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    shard = make_shard(LENGTHS)
    line = start(tiny_model, home)
    now = head(home).facts.fingerprint["half_precision"]
    changed_head(line, half_precision="abacus")
    for job, precision, told in (("job-1", "fp32", []),
                                 ("job-2", "bf16", [({"half_precision": "abacus"}, {"half_precision": now})])):
        changed_head(line, half_precision="abacus")
        settings = msgspec.structs.replace(SETTINGS, precision=precision)
        assert train(line, job_over(shard, job, settings), home)[1].changes == told
    # A checkpoint of before does not say.
    assert line.head is not None
    before = {key: value for key, value in line.head.fingerprint.items() if key != "half_precision"}
    line.head = msgspec.structs.replace(line.head, fingerprint=before)
    settings = msgspec.structs.replace(SETTINGS, precision="bf16")
    assert train(line, job_over(shard, "job-3", settings), home)[1].changes == []


def test_an_observer_that_holds_leaves_the_line_as_it_was(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    class Holding(Script):
        def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
            raise OtherModelError(f"{before} {after}")

    line = start(tiny_model, home)
    changed_head(line, device="abacus")
    before = line.facts
    with pytest.raises(OtherModelError, match="abacus"):
        train(line, job_over(make_shard(LENGTHS)), home, Holding())
    assert (line.facts, len(checkpoints.list_generations(home.checkpoints))) == (before, 1)


@pytest.mark.slow
def test_taken_back_weights_keep_the_fingerprint_that_computed_them(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    shard = make_shard(LENGTHS)
    line = start(tiny_model, home)
    base = checkpointing.publish(line, home, "interval")
    # On disk the base says abacus; the job trained here, on something else, and is taken back here.
    (base.path / "manifest.json").unlink()
    abacus = msgspec.structs.replace(base.facts, fingerprint={**base.facts.fingerprint, "device": "abacus"})
    manifests.seal(base.path, checkpoints.KIND, msgspec.to_builtins(abacus))
    line = checkpointing.restore(head(home))
    train(line, job_over(shard), home, Script(at=2))
    line, _ = checkpointing.take_back(line, home)
    _, script = train(line, job_over(shard, "job-2"), home)
    assert script.changes == [({"device": "abacus"}, {"device": "cpu"})]


def test_without_memory_for_a_copy_the_steps_wait_for_the_disk(
        tiny_model: Path, home: Home, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    line = start(tiny_model, home)
    monkeypatch.setattr("trainq.ml.hostmemory.torch.empty", none_left)
    outcome, script = train(line, job_over(shard, settings=EAGER), home, Script(line=line))
    assert outcome.ending is Ending.FINISHED
    assert {publication.facts.reason for publication in script.publications} == {"interval", "job_end"}
    before = [publication for publication in script.publications if publication.facts.reason == "interval"]
    assert line.checkpoint_cost_seconds == before[-1].cost_seconds, "that counts as what they cost"
