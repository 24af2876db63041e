"""A line that trains an adapter is as exact as any other, and its weights are kept for as long as an adapter is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM

from tests.generations import bits_of
from tests.unit.trainq.ml.tiny import LENGTHS, MakeShard, Script, job_over, start, train
from trainq import checkpoints, files, manifests, restoring, snapshots
from trainq.checkpoints import Verified, WeightsMissingError
from trainq.config import Home, LoraSettings
from trainq.errors import DamageError, InputError, NotFoundError
from trainq.jobs import Store
from trainq.ml import adapter, checkpointing, generation, line
from trainq.ml.training import Ending, Wish

# An adapted model is trained in each of them.
pytestmark = pytest.mark.slow

LORA = LoraSettings(rank=4, alpha=8, dropout=0.2)
ADAPTER = "adapter/adapter_model.safetensors"
INITIAL = "g000001-s00000000"


def head(home: Home) -> Verified:
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    assert damaged == []
    return found


def digests(verified: Verified) -> dict[str, str]:
    return bits_of(verified.manifest)


def snapshot_of(home: Home, *names: str) -> None:
    files.make_directory(home.snapshots)
    for name in names:
        snapshots.create(home.snapshots, home.checkpoints / name, jobs=b"", job_count=0, created_at=1.0,
                         created_by="test", on_chunk=lambda _: None)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_stopped_and_resumed_is_undisturbed(tiny_model: Path, home: Home, tmp_path: Path, make_shard: MakeShard,
                                            stop_at: int) -> None:
    job = job_over(make_shard(LENGTHS))
    elsewhere = Home(tmp_path / "undisturbed")
    for folder in elsewhere.folders():
        files.make_directory(folder)
    train(start(tiny_model, elsewhere, LORA), job, elsewhere)
    train(start(tiny_model, home, LORA), job, home, Script(at=stop_at))
    torch.manual_seed(999)  # nothing of this process may matter
    outcome, script = train(checkpointing.restore(head(home)), job, home)
    assert outcome.ending is Ending.FINISHED
    assert digests(head(home)) == digests(head(elsewhere))
    assert script.changes == []


def test_only_the_adapter_is_trained_and_published(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LORA)
    weights = {name: tensor.clone() for name, tensor in begun.model.named_parameters() if not tensor.requires_grad}
    announced = train(begun, job_over(make_shard(LENGTHS)), home)[1].announced
    after = dict(begun.model.named_parameters())
    assert weights
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())
    first, last = checkpoints.verify(home.checkpoints / INITIAL), head(home)
    assert first.facts.adapter_of == last.facts.adapter_of == INITIAL
    assert "model.safetensors" in first.manifest.files
    assert "model.safetensors" not in last.manifest.files
    assert digests(first)[ADAPTER] != digests(last)[ADAPTER]
    assert last.weights == first.manifest
    assert last.facts.needs == (INITIAL,)
    optimizer_names = {name.rpartition("/")[0] for name in load(
        (last.path / "optimizer.safetensors").read_bytes())}
    assert all(".lora_" in name for name in optimizer_names)
    # What is announced before is what it takes: the watch and the look for room go by it.
    adapter_bytes = sum(tensor.numel() * 4 for tensor in load((last.path / ADAPTER).read_bytes()).values())
    assert announced == [3 * adapter_bytes]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_plain_peft_loads_it(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LORA)
    train(begun, job_over(make_shard(LENGTHS)), home)
    last = head(home)
    plain = AutoModelForCausalLM.from_pretrained(last.weights_path)
    loaded = PeftModel.from_pretrained(plain, str(last.path / "adapter"), is_trainable=True).eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    begun.model.eval()
    with torch.inference_mode():
        assert torch.equal(loaded(tokens).logits, begun.model(tokens).logits)
        assert not torch.equal(loaded(tokens).logits, AutoModelForCausalLM.from_pretrained(
            last.weights_path).eval()(tokens).logits)
    assert generation.answer(last.path, ["hi"], 4) == generation.answer(last.path, ["hi"], 4)


def test_merged_it_answers_the_same(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LORA)
    train(begun, job_over(make_shard(LENGTHS)), home)
    begun.model.eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        before = begun.model(tokens).logits
        merged = adapter.merge(begun.model)
        assert not adapter.is_adapted(merged)
        torch.testing.assert_close(merged(tokens).logits, before)


def test_a_cancelled_job_is_taken_back_bit_for_bit(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LORA)
    initial = head(home)
    job = job_over(make_shard(LENGTHS))
    train(begun, job, home, Script(at=2))  # a stop publishes
    train(begun, job, home, Script(at=4, what=Wish.CANCEL))
    begun, publication = checkpointing.take_back(begun, home)
    assert publication is not None
    after = head(home)
    # The weights are not written again: they lie where they lay.
    assert (after.facts.adapter_of, after.facts.has_weights) == (INITIAL, False)
    assert digests(after) == {name: digest for name, digest in digests(initial).items() if name in digests(after)}
    assert ADAPTER in digests(after)


def test_damaged_weights_spoil_what_is_built_on_them(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    train(start(tiny_model, home, LORA), job_over(make_shard(LENGTHS)), home)
    weights = home.checkpoints / INITIAL / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert found is None
    assert [error.path for error in damaged] == [str(weights)] * 2


def test_missing_weights_are_no_damage(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    train(start(tiny_model, home, LORA), job_over(make_shard(LENGTHS)), home)
    last = head(home).path
    shutil.move(home.checkpoints / INITIAL, home.root / "away")
    with pytest.raises(WeightsMissingError, match=INITIAL):
        checkpoints.newest_verified(home.checkpoints)
    shutil.move(home.root / "away", home.checkpoints / INITIAL)
    assert head(home).path == last


def test_a_restore_brings_the_weights_back(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LORA)
    job = job_over(make_shard(LENGTHS))
    train(begun, job_over(make_shard(LENGTHS, "before"), "job-0"), home)
    train(begun, job, home, Script(at=2))
    middle = head(home)
    ground = checkpoints.verify(home.checkpoints / middle.facts.base)
    assert set(middle.facts.needs) == {INITIAL, ground.facts.name}
    snapshot_of(home, INITIAL, ground.facts.name, middle.facts.name)
    for path in checkpoints.list_generations(home.checkpoints):
        shutil.rmtree(path)
    source = restoring.find(home, Store.SNAPSHOTS, middle.facts.name)
    facts = restoring.publish_again(home, source, by="restore-1", above=7, journal_seq=9, on_chunk=lambda _: None)
    assert [path.name for path in checkpoints.list_generations(home.checkpoints)] == [
        facts.name, ground.facts.name, INITIAL]
    assert (facts.adapter_of, digests(head(home))) == (INITIAL, digests(middle))
    back, _ = checkpointing.take_back(checkpointing.restore(head(home)), home)
    assert digests(head(home)) == digests(ground)
    train(back, job, home)


def test_a_restore_brings_damaged_weights_back_too(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    train(start(tiny_model, home, LORA), job_over(make_shard(LENGTHS)), home)
    last = head(home)
    snapshot_of(home, INITIAL, last.facts.name)
    weights = home.checkpoints / INITIAL / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    source = restoring.find(home, Store.SNAPSHOTS, last.facts.name)
    restoring.publish_again(home, source, by="restore-1", above=7, journal_seq=9, on_chunk=lambda _: None)
    assert digests(head(home)) == digests(last)
    assert [str(name) for name, _ in checkpoints.list_set_aside(home.checkpoints)] == [INITIAL]
    # Where there is no other copy the damaged one is left as it is.
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    shutil.rmtree(home.snapshots / INITIAL)
    with pytest.raises(NotFoundError):
        restoring.publish_again(home, source, by="restore-2", above=9, journal_seq=9, on_chunk=lambda _: None)
    assert weights.exists()


def test_restored_weights_are_the_new_generations_own(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LORA)
    train(begun, job_over(make_shard(LENGTHS)), home)
    source = restoring.find(home, Store.CHECKPOINTS, INITIAL)
    facts = restoring.publish_again(home, source, by="restore-1", above=7, journal_seq=9, on_chunk=lambda _: None)
    assert facts.adapter_of == facts.name
    restored = checkpointing.restore(head(home))
    train(restored, job_over(make_shard(LENGTHS, "again"), "job-2"), home)
    assert head(home).facts.adapter_of == facts.name


def test_no_such_layers(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="no adapter can be put on this model") as caught:
        line.begin(str(tiny_model), 0, LoraSettings(rank=4, target_modules=("nose",)))
    assert caught.value.field == "lora.target_modules"


@pytest.mark.parametrize("spoil", ["missing", "renamed", "shape", "config"])
def test_content_that_is_nonsense_is_refused(tiny_model: Path, home: Home, spoil: str) -> None:
    start(tiny_model, home, LORA)
    found = head(home)
    tensors = load((found.path / ADAPTER).read_bytes())
    name = sorted(tensors)[0]
    if spoil == "missing":
        del tensors[name]
    elif spoil == "renamed":
        tensors["other"] = tensors.pop(name)
    elif spoil == "shape":
        tensors[name] = tensors[name][:1].clone()
    else:
        (found.path / "adapter/adapter_config.json").write_bytes(b"{}")
    (found.path / ADAPTER).write_bytes(save(tensors))
    (found.path / manifests.MANIFEST_NAME).unlink()
    manifests.seal(found.path, checkpoints.KIND, found.manifest.facts)
    with pytest.raises(DamageError):
        checkpointing.restore(head(home))
