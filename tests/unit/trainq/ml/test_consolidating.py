"""Merging is checked before it counts, and a line that goes on from it is the line of before with a fresh adapter."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.generations import bits_of
from tests.unit.trainq.ml.tiny import LENGTHS, MakeShard, Script, job_over, start, train
from trainq import checkpoints, files, merged
from trainq.checkpoints import Verified
from trainq.config import Home, LoraSettings
from trainq.errors import DamageError, InputError, UsageError
from trainq.merged import MergedFacts
from trainq.ml import adapter, checkpointing, consolidating, model, rebasing
from trainq.ml.line import ModelLine

# A model is merged in each of them, in a process of its own in some.
pytestmark = pytest.mark.slow

LORA = LoraSettings(rank=4, alpha=8, dropout=0.2)
TOKENS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture
def learned(tiny_model: Path, home: Home, make_shard: MakeShard) -> ModelLine:
    begun = start(tiny_model, home, LORA)
    train(begun, job_over(make_shard(LENGTHS)), home)
    return begun


def head(home: Home) -> Verified:
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    assert damaged == []
    return found


def consolidate(home: Home, **changes: float) -> MergedFacts:
    wanted = {"rows": 5, "max_logit_delta": 0.001, **changes}
    return consolidating.consolidate(home, head(home).facts.name, rows=int(wanted["rows"]),
                                     max_logit_delta=wanted["max_logit_delta"])


def says(any_model: torch.nn.Module) -> torch.Tensor:
    any_model.eval()
    with torch.inference_mode():
        logits: torch.Tensor = any_model(input_ids=TOKENS).logits
    return logits


def test_the_merged_model_says_the_same(learned: ModelLine, home: Home) -> None:
    facts = consolidate(home)
    assert (facts.source, facts.step, facts.rows) == (head(home).facts.name, 6, 4)
    assert facts.positions == sum(LENGTHS[:4])
    assert 0 <= facts.max_logit_delta < 0.001
    path = merged.path_of(home, facts.source)
    plain = AutoModelForCausalLM.from_pretrained(path)
    torch.testing.assert_close(says(plain), says(learned.model))
    assert not torch.equal(says(plain), says(model.load(head(home).weights_path)))
    assert merged.verify(home, facts.source) == facts


def test_one_that_is_there_is_taken_and_a_damaged_one_is_made_anew(learned: ModelLine, home: Home) -> None:
    del learned
    facts = consolidate(home)
    weights = merged.path_of(home, facts.source) / "model.safetensors"
    inode = weights.stat().st_ino
    assert consolidate(home) == facts
    assert weights.stat().st_ino == inode
    weights.write_bytes(weights.read_bytes()[:-1])
    assert consolidate(home) == facts
    assert merged.verify(home, facts.source) == facts
    assert merged.remove_all(home) == [facts.source]
    assert list(home.merged.iterdir()) == []


def test_one_that_says_something_else_is_thrown_away(learned: ModelLine, home: Home,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    del learned
    honest = adapter.merge

    def lossy(adapted: object) -> object:
        plain = honest(adapted)
        with torch.no_grad():
            next(plain.parameters())[1, 0] += 0.5
        return plain

    monkeypatch.setattr(adapter, "merge", lossy)
    with pytest.raises(InputError, match="a logit differs by"):
        consolidate(home)
    assert list(home.merged.iterdir()) == []


def test_a_logit_that_is_no_number_is_no_small_difference(learned: ModelLine, home: Home,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    del learned
    honest = consolidating._last_logits
    seen: list[int] = []

    def last_logits(any_model: torch.nn.Module, tokens_t: torch.Tensor) -> torch.Tensor:
        seen.append(len(seen))
        logits = honest(any_model, tokens_t)
        return logits * float("nan") if seen[-1] == 5 else logits  # of the merged model's second row

    monkeypatch.setattr(consolidating, "_last_logits", last_logits)
    with pytest.raises(InputError, match="differs by nan"):
        consolidate(home, rows=4)
    assert list(home.merged.iterdir()) == []


def test_what_is_on_the_disk_is_checked_and_not_what_was_in_memory(learned: ModelLine, home: Home,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    del learned
    honest = model.save

    def torn(plain: object, companions: object, folder: Path) -> None:
        honest(plain, companions, folder)
        path = folder / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-400:] = b"\x3f" * 400  # 0.747 each
        path.write_bytes(content)

    monkeypatch.setattr(model, "save", torn)
    with pytest.raises(InputError, match="a logit differs by"):
        consolidate(home)
    assert list(home.merged.iterdir()) == []


def test_without_a_row_nothing_is_merged(learned: ModelLine, home: Home) -> None:
    del learned
    for path in home.cache.iterdir():
        files.remove_tree(path)
    with pytest.raises(InputError, match="no prepared row"):
        consolidate(home)


def test_the_line_goes_on_from_it(learned: ModelLine, home: Home, make_shard: MakeShard) -> None:
    before, said = head(home), says(learned.model)
    consolidate(home)
    again = rebasing.rebased(learned, home, before.facts.name, LORA, 7, warmup=True)
    published = checkpointing.publish(again, home, "rebase", made_by="rebase-1").facts
    assert learned.is_released
    assert (published.adapter_of, published.made_by, published.parent) == (
        published.name, "rebase-1", before.facts.name)
    for same in ("step", "cursor", "base", "rows_seen", "tokens_seen", "model"):
        assert getattr(published, same) == getattr(before.facts, same)
    assert (before.facts.optimizer_since, published.optimizer_since) == (0, before.facts.step)
    torch.testing.assert_close(says(again.model), said)
    assert head(home).facts == published
    assert "optimizer.safetensors" in head(home).manifest.files
    restored = checkpointing.restore(head(home))
    assert torch.equal(says(restored.model), says(again.model))
    restored.model.train()
    _, script = train(restored, job_over(make_shard(LENGTHS, "next"), "job-2"), home)
    assert [metrics.step for metrics in script.steps] == [7, 8, 9, 10, 11, 12]
    assert head(home).facts.adapter_of == published.name


@pytest.mark.parametrize(("warmup", "rates"), [(True, [0.0025, 0.005]), (False, [0.01, 0.01])])
def test_the_fresh_optimizer_warms_up_where_the_task_says_so(learned: ModelLine, home: Home, make_shard: MakeShard,
                                                            warmup: bool, rates: list[float]) -> None:
    consolidate(home)
    again = rebasing.rebased(learned, home, head(home).facts.name, LORA, 7, warmup=warmup)
    checkpointing.publish(again, home, "rebase", made_by="rebase-1")
    _, script = train(checkpointing.restore(head(home)), job_over(make_shard(LENGTHS, "b"), "job-2"), home,
                      Script(at=2))
    assert [metrics.learning_rate for metrics in script.steps] == rates


def test_it_is_the_same_bytes_whoever_does_it(learned: ModelLine, home: Home) -> None:
    source = head(home)
    consolidate(home)
    seen = []
    for _ in range(2):
        restored = checkpointing.restore(source)
        torch.manual_seed(len(seen))  # nothing of this process may matter
        again = rebasing.rebased(restored, home, source.facts.name, LORA, 7, warmup=True)
        checkpointing.publish(again, home, "rebase")
        seen.append(bits_of(head(home).manifest))
        files.remove_tree(head(home).path)
    assert seen[0] == seen[1]
    del learned


def test_without_a_rank_all_weights_are_trained_from_there_on(learned: ModelLine, home: Home,
                                                              make_shard: MakeShard) -> None:
    said, source = says(learned.model), head(home).facts.name
    consolidate(home)
    plain = rebasing.rebased(learned, home, source, LoraSettings(), 7, warmup=True)
    assert checkpointing.publish(plain, home, "rebase").facts.adapter_of == ""
    torch.testing.assert_close(says(plain.model), said)
    plain.model.train()
    train(plain, job_over(make_shard(LENGTHS, "next"), "job-2"), home)
    assert "model.safetensors" in head(home).manifest.files


def test_trained_weights_get_an_adapter(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    full = start(tiny_model, home)
    train(full, job_over(make_shard(LENGTHS)), home)
    said, source = says(full.model), head(home).facts.name
    again = rebasing.rebased(full, home, source, LORA, 7, warmup=True)
    assert checkpointing.publish(again, home, "rebase").facts.has_weights
    assert torch.equal(says(again.model), said)
    again.model.train()
    train(again, job_over(make_shard(LENGTHS, "next"), "job-2"), home)
    assert "model.safetensors" not in head(home).manifest.files


def test_only_the_head_that_was_merged_is_gone_on_from(learned: ModelLine, home: Home, make_shard: MakeShard) -> None:
    source = head(home).facts.name
    with pytest.raises(DamageError, match="no manifest"):
        rebasing.rebased(learned, home, source, LORA, 7, warmup=True)
    consolidate(home)
    job = job_over(make_shard(LENGTHS, "next"), "job-2")
    train(learned, job, home, Script(at=2))
    with pytest.raises(UsageError, match=f"the line stands at {head(home).facts.name}"):
        rebasing.rebased(learned, home, source, LORA, 7, warmup=True)
    with pytest.raises(UsageError, match="in the middle of job-2"):
        rebasing.rebased(learned, home, head(home).facts.name, LORA, 7, warmup=True)
    assert not learned.is_released
    train(learned, job, home)


@pytest.mark.parametrize(("request_", "code", "words"), [
    (b"nonsense", 65, "not a request"),
    (b'{"home":"/nowhere","source":"g000001-s00000000","rows":1,"max_logit_delta":1,"threads":1}', 74, "manifest"),
])
def test_a_child_says_why_it_could_not(request_: bytes, code: int, words: str, monkeypatch: pytest.MonkeyPatch,
                                       capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.write(write, request_)
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert consolidating.main() == code
    said = msgspec.json.decode(capfd.readouterr().out)
    assert words in said["error"]
