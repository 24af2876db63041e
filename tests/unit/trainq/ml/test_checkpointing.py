"""A checkpoint is everything: what is restored goes on exactly as what was saved, and damage is refused."""

from __future__ import annotations

import gc
import random
import resource
import shutil
import threading
import weakref
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.generations import bits_of
from tests.unit.trainq.ml.tiny import LENGTHS, MakeShard, Script, job_over, start, train
from trainq import checkpoints, diskfaults, files, manifests, restoring, snapshots
from trainq.checkpoints import Verified
from trainq.config import Home
from trainq.errors import DamageError, InputError, NotFoundError, StorageError, StorageFullError
from trainq.jobs import Store
from trainq.ml import checkpointing, writing
from trainq.ml.line import ModelLine
from trainq.ml.training import Wish


def head(home: Home) -> Verified:
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    assert damaged == []
    return found


def digests(verified: Verified) -> dict[str, str]:
    return bits_of(verified.manifest)


def test_what_is_restored_is_published_as_the_same_bytes(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    train(line, job_over(make_shard(LENGTHS)), home, Script(at=2))
    saved = head(home)
    restored = checkpointing.restore(saved)
    assert restored.facts == line.facts == saved.facts
    checkpointing.publish(restored, home, "interval")
    again = head(home)
    assert digests(again) == digests(saved)
    assert (again.facts.generation, again.facts.parent) == (saved.facts.generation + 1, saved.facts.name)


def test_the_generators_draw_what_they_would_have_drawn(tiny_model: Path, home: Home) -> None:
    line = start(tiny_model, home)
    random.gauss(0, 1)
    np.random.standard_normal()
    checkpointing.publish(line, home, "interval")

    def draw() -> tuple[float, float, float, list[float]]:
        return random.random(), random.gauss(0, 1), float(np.random.standard_normal()), torch.rand(3).tolist()

    drawn = draw()
    checkpointing.restore(head(home))
    assert draw() == drawn


def test_current_leads_to_the_head(tiny_model: Path, home: Home) -> None:
    line = start(tiny_model, home)
    assert home.current.resolve() == head(home).path.resolve()
    checkpointing.publish(line, home, "interval")
    assert home.current.resolve() == head(home).path.resolve()
    assert not home.current.readlink().is_absolute()
    home.current.unlink()
    writing.point_current_at(home, head(home).facts)
    assert home.current.resolve() == head(home).path.resolve()


def test_plain_transformers_loads_it(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    train(line, job_over(make_shard(LENGTHS)), home)
    plain = AutoModelForCausalLM.from_pretrained(home.current)
    tokenizer = AutoTokenizer.from_pretrained(home.current)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hé"}], tokenize=False,
                                         add_generation_prompt=True)
    assert text == "<|bos|><|user|>hé<|end|><|assistant|>"
    tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(plain.eval()(tokens).logits, line.model.eval()(tokens).logits)


def test_no_pickle_is_written(tiny_model: Path, home: Home) -> None:
    start(tiny_model, home)
    names = set(head(home).manifest.files) - {"ledger.bin"}
    assert {Path(name).suffix for name in names} == {".json", ".jinja", ".safetensors", ".md"}


@pytest.mark.slow
def test_a_cancelled_job_is_taken_back_bit_for_bit(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    train(line, job_over(make_shard(LENGTHS, "first"), "job-1"), home)
    before = head(home)
    second = job_over(make_shard(LENGTHS, "second!"), "job-2")
    train(line, second, home, Script(at=2))  # a stop publishes
    train(line, second, home, Script(at=4, what=Wish.CANCEL))
    partly = head(home)
    assert partly.facts.cursor.job == "job-2"
    line, publication = checkpointing.take_back(line, home)
    after = head(home)
    assert publication is not None
    assert publication.facts == after.facts
    assert digests(after) == digests(before)
    assert (after.facts.step, after.facts.cursor, after.facts.base) == (
        before.facts.step, before.facts.cursor, before.facts.base)
    assert (after.facts.generation, after.facts.parent, after.facts.reason) == (
        partly.facts.generation + 1, partly.facts.name, "take_back")
    _, script = train(line, second, home)
    assert [metrics.job_step for metrics in script.steps] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_job_restored_in_its_middle_can_be_taken_back_to_the_state_before_it(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    job = job_over(make_shard(LENGTHS, "first"), "job-1")
    train(line, job, home, Script(at=2))  # a stop publishes
    middle, ground = head(home), checkpoints.list_generations(home.checkpoints)[1]
    before = digests(checkpoints.verify(ground))
    files.make_directory(home.snapshots)
    for path in (ground, middle.path):
        snapshots.create(home.snapshots, path, jobs=b"", job_count=0, created_at=1.0, created_by="test",
                         on_chunk=lambda _: None)
    for path in checkpoints.list_generations(home.checkpoints):
        shutil.rmtree(path)
    source = restoring.find(home, Store.SNAPSHOTS, middle.facts.name)
    facts = restoring.publish_again(home, source, by="restore-1", above=7, journal_seq=9, on_chunk=lambda _: None)
    assert (facts.generation, facts.base, facts.restored_from) == (8, ground.name, middle.facts.generation)
    restored = head(home)
    assert (restored.facts, digests(restored)) == (facts, digests(middle))
    line, publication = checkpointing.take_back(checkpointing.restore(restored), home)
    assert publication is not None
    assert digests(head(home)) == before
    assert (publication.facts.made_by, publication.facts.parent) == ("", facts.name)

    shutil.rmtree(ground)
    shutil.rmtree(home.snapshots / ground.name)
    with pytest.raises(NotFoundError):
        restoring.publish_again(home, source, by="restore-2", above=9, journal_seq=9, on_chunk=lambda _: None)
    assert head(home).facts == publication.facts


@pytest.mark.slow
def test_a_line_that_makes_way_for_another_lets_go_of_its_memory(tiny_model: Path, home: Home) -> None:
    line = start(tiny_model, home)
    model, optimizer = weakref.ref(line.model), weakref.ref(line.optimizer)
    restored = checkpointing.restore_instead(line, head(home))
    gc.collect()
    assert (model(), optimizer(), line.is_released, restored.is_released) == (None, None, True, False)


@pytest.mark.slow
def test_a_job_without_published_steps_is_taken_back_by_loading_the_head(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    train(line, job_over(make_shard(LENGTHS)), home, Script(at=3, what=Wish.CANCEL))
    assert line.has_unpublished_steps
    line, publication = checkpointing.take_back(line, home)
    assert publication is None
    assert line.facts == head(home).facts
    assert not line.has_unpublished_steps
    checkpointing.publish(line, home, "interval")
    first, second = reversed(checkpoints.list_generations(home.checkpoints))
    assert digests(checkpoints.verify(first)) == digests(checkpoints.verify(second))


def nothing() -> None:
    pass


def step_on(line: ModelLine) -> None:
    """Change everything that a checkpoint holds."""
    with torch.no_grad():
        for parameter in line.model.parameters():
            parameter.add_(1.0)
        for state in line.optimizer.state.values():
            for value in state.values():
                value.add_(1.0)
    torch.rand(3)
    random.random()
    np.random.standard_normal()
    line.ledger += bytes(20)
    line.facts = msgspec.structs.replace(line.facts, step=line.facts.step + 1)


def test_what_is_written_beside_the_steps_is_the_state_in_which_it_was_begun(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    train(line, job_over(make_shard(LENGTHS)), home, Script(at=3))
    before, calm = head(home), digests(head(home))
    beside, stepped = checkpointing.Beside(line, home), threading.Event()
    for round_ in (1, 2):  # the second time into the memory of the first
        beside.begin("interval", stepped.wait)
        step_on(line)
        assert (beside.take(wait=False), line.head) == (None, before.facts)
        with pytest.raises(ValueError, match="being written"):
            checkpointing.publish(line, home, "stop")
        stepped.set()
        publication = beside.take(wait=True)
        assert publication is not None
        assert (head(home).facts, line.head) == (publication.facts, publication.facts)
        assert (publication.facts.generation, publication.facts.parent, publication.facts.step) == (
            before.facts.generation + 1, before.facts.name, 3 + round_ - 1)
        assert (digests(head(home)) == calm) is (round_ == 1)
        assert (line.facts.step, line.facts.generation, line.unpublished_steps) == (
            3 + round_, publication.facts.generation, 1)
        assert publication.cost_seconds > publication.seconds > 0 < publication.write_seconds
        assert beside.take(wait=True) is None
        before = head(home)
        stepped.clear()
    # As it is now, once the usual way and once beside: the same bytes.
    checkpointing.publish(line, home, "stop")
    calm = digests(head(home))
    beside.begin("interval", nothing)
    assert beside.take(wait=True) is not None
    assert digests(head(home)) == calm


def test_what_fails_beside_the_steps_is_raised_when_it_is_taken_and_the_head_stays(
        tiny_model: Path, home: Home) -> None:
    line = start(tiny_model, home)
    before = head(home).facts
    beside = checkpointing.Beside(line, home)
    beside.begin("interval", lambda: diskfaults.arm("ENOSPC", 2, for_ever=False))
    with pytest.raises(StorageFullError):
        beside.take(wait=True)
    assert diskfaults.disarm()[1] == 1
    with torch.no_grad():
        next(line.model.parameters())[0, 0] = float("nan")
    beside.begin("interval", nothing)
    with pytest.raises(InputError, match="finite"):
        beside.take(wait=True)
    assert (line.head, head(home).facts, beside.is_busy) == (before, before, False)
    assert files.list_tree(home.checkpoints) == files.list_tree(home.checkpoints / before.name), "nothing else is left"


def test_weights_that_are_no_numbers_are_not_published(tiny_model: Path, home: Home) -> None:
    line = start(tiny_model, home)
    with torch.no_grad():
        next(line.model.parameters())[0, 0] = float("nan")
    with pytest.raises(InputError, match="finite"):
        checkpointing.publish(line, home, "interval")
    assert len(checkpoints.list_generations(home.checkpoints)) == 1
    assert files.sweep_temporaries(home.checkpoints) == []


def reseal(verified: Verified, name: str, content: bytes) -> Verified:
    """The same checkpoint with another file in it and a manifest that fits: damage that digests cannot show."""
    (verified.path / "manifest.json").unlink()
    (verified.path / name).write_bytes(content)
    manifests.seal(verified.path, checkpoints.KIND, msgspec.to_builtins(verified.facts))
    return checkpoints.verify(verified.path)


def test_an_optimizer_state_of_another_model_is_refused(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    train(start(tiny_model, home), job_over(make_shard(LENGTHS)), home, Script(at=1))
    whole = head(home)
    tensors = load((whole.path / "optimizer.safetensors").read_bytes())
    name = next(name for name in tensors if name.endswith("norm.weight/exp_avg"))
    for changed in ({**tensors, name: tensors[name][:-1].clone()}, {**tensors, name: tensors[name].double()},
                    {other: tensor for other, tensor in tensors.items() if other != name},
                    {**tensors, "extra/exp_avg": tensors[name].clone()}):
        with pytest.raises(DamageError, match=r"optimizer\.safetensors"):
            checkpointing.restore(reseal(whole, "optimizer.safetensors", save(changed)))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"])
def test_content_that_is_nonsense_is_refused(tiny_model: Path, home: Home, name: str) -> None:
    start(tiny_model, home)
    with pytest.raises(DamageError):
        checkpointing.restore(reseal(head(home), name, b"nonsense"))


def test_a_model_with_missing_weights_is_refused(tiny_model: Path, home: Home) -> None:
    start(tiny_model, home)
    whole = head(home)
    tensors = load((whole.path / "model.safetensors").read_bytes())
    del tensors["model.norm.weight"]
    with pytest.raises(DamageError, match="missing_keys"):
        checkpointing.restore(reseal(whole, "model.safetensors", save(tensors, metadata={"format": "pt"})))


def test_without_descriptors_nothing_is_taken_for_damaged(tmp_path: Path) -> None:
    (tmp_path / "tensors").write_bytes(b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StorageError, match="Too many open files"):
            checkpointing._read_tensors(tmp_path / "tensors")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
