"""On a GPU a run that was stopped and killed ends with the bits of an undisturbed one (docs/reliability.md, G5)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from installations import ROOT
from trainq import builtin, checkpoints, preparing
from trainq.config import DataSettings, Home, TrainSettings
from trainq.textcodec import TextCodec

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(300)]

EXAMPLES = ("chat.jsonl", "prompt-completion.jsonl", "text.jsonl")
# Uneven micro-batches, the last ones partial; a checkpoint now and then, so that a kill costs steps.
SETTINGS = TrainSettings(epochs=1, batch_rows=16, micro_batch_rows=6, learning_rate=3e-3, warmup_steps=10, threads=1,
                         checkpoint_steps=8)
# Some within a job, some across its end, some before an interval is over; the life after the last does the rest.
ENDS: tuple[tuple[Literal["stop", "kill"], int], ...] = (("stop", 3), ("kill", 11), ("kill", 29), ("stop", 1),
                                                        ("kill", 6), ("stop", 12))
Record = Callable[[str, object], None]


def prepared(source: Path, folder: Path) -> Path:
    """The shard that the built-in tokenizer makes of ``source``."""
    codec = TextCodec.load(builtin.folder())
    outcome = preparing.prepare(
        source=source, codec=codec, settings=DataSettings(), context_tokens=builtin.CONTEXT_TOKENS,
        destination_folder=folder, rejected_folder=folder, name=source.stem, beat=lambda _: None)
    assert isinstance(outcome, preparing.Prepared), outcome
    return folder / outcome.shard


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """The examples as they are, and one with rows that nearly fill the context."""
    texts = [msgspec.json.decode(line)["text"] for line in (ROOT / "examples" / "text.jsonl").read_bytes().splitlines()]
    long = tmp_path / "long.jsonl"
    long.write_bytes(b"".join(msgspec.json.encode({"text": " ".join(texts[at:at + 8])}) + b"\n"
                              for at in range(0, len(texts), 3)))
    folder = tmp_path / "cache"
    folder.mkdir()
    return [prepared(source, folder) for source in (*(ROOT / "examples" / name for name in EXAMPLES), long)]


@pytest.fixture
def model_with_dropout(tmp_path: Path) -> str:
    """13 million parameters, and numbers drawn from the GPU's own generator at each step."""
    import torch
    from transformers import LlamaConfig

    from trainq.ml import model

    folder = tmp_path / "model"
    torch.manual_seed(11)
    made = model.make(LlamaConfig(
        vocab_size=262, hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=builtin.CONTEXT_TOKENS, attention_dropout=0.1,
        pad_token_id=256, bos_token_id=257, eos_token_id=258))
    model.save(made, model.read_companions(builtin.folder()), folder)
    return str(folder)


def live(home: Path, model: str, shards: list[Path], end: Literal["done", "stop", "kill"] = "done",
         after_steps: int = 0, settings: TrainSettings = SETTINGS) -> dict[str, Any]:
    """One life in a process of its own; what it says of itself, nothing if it was killed."""
    plan = {"home": str(home), "model": model, "shards": [str(shard) for shard in shards], "settings": settings,
            "end": end, "after_steps": after_steps}
    done = subprocess.run([sys.executable, "-m", "tests.gpu.lives", msgspec.json.encode(plan).decode()], cwd=ROOT,
                          capture_output=True, check=False, timeout=120)
    assert done.returncode == (-signal.SIGKILL if end == "kill" else 0), done.stderr.decode()
    lived: dict[str, Any] = msgspec.json.decode(done.stdout) if done.stdout else {}
    return lived


def digests(home: Path) -> dict[str, str]:
    """Every file of the newest generation."""
    found, damaged = checkpoints.newest_verified(Home(home).checkpoints)
    assert found is not None
    assert not damaged
    return {name: record.blake3 for name, record in found.manifest.files.items()}


def metric_lines(home: Path) -> list[dict[str, float]]:
    """Each step of each job in order, without what it took."""
    lines = [msgspec.json.decode(line) for path in sorted(Home(home).metrics.glob("*.jsonl"))
             for line in path.read_bytes().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize(("kind", "wanted"), [
    ("built-in", {}), ("with-dropout", {}),
    ("with-dropout", {"precision": "bf16", "schedule": "cosine", "rewarm_steps": 4, "gradient_checkpointing": True}),
    ("with-dropout", {"precision": "fp16", "schedule": "wsd"})], ids=["built-in", "with-dropout", "bf16", "fp16"])
def test_stopped_and_killed_is_undisturbed(kind: str, wanted: dict[str, Any], gpu: str, tmp_path: Path,
                                           shards: list[Path], request: pytest.FixtureRequest,
                                           record_property: Record) -> None:
    model = "" if kind == "built-in" else request.getfixturevalue("model_with_dropout")
    settings = msgspec.structs.replace(SETTINGS, **wanted)
    undisturbed = live(tmp_path / "undisturbed", model, shards, settings=settings)
    assert undisturbed["device"] == "cuda:0"
    assert undisturbed["fingerprint"]["device"] == gpu
    assert undisturbed["fingerprint"]["deterministic"] == "true"
    assert undisturbed["losses"][-1] < undisturbed["losses"][0]

    for end, after_steps in ENDS:
        live(tmp_path / "disturbed", model, shards, end, after_steps, settings)
    last = live(tmp_path / "disturbed", model, shards, settings=settings)
    assert 1 < last["first_step"] < last["last_step"] == undisturbed["last_step"]

    for name, value in {"gpu": gpu, "fingerprint": undisturbed["fingerprint"], "steps": undisturbed["steps"],
                        "seconds_of_steps": undisturbed["seconds"], "peak_bytes": undisturbed["peak_bytes"],
                        "ends": ENDS, "steps_of_the_last_life": last["steps"]}.items():
        record_property(name, value)
    expected = digests(tmp_path / "undisturbed")
    assert {"model.safetensors", "optimizer.safetensors", "rng.safetensors", "ledger.bin"} <= expected.keys()
    assert digests(tmp_path / "disturbed") == expected
    assert metric_lines(tmp_path / "disturbed") == metric_lines(tmp_path / "undisturbed")
    assert len(metric_lines(tmp_path / "undisturbed")) == undisturbed["steps"]


def test_the_generator_of_the_gpu_is_drawn_from_and_kept(tmp_path: Path, shards: list[Path],
                                                         model_with_dropout: str) -> None:
    """Else the test above would prove nothing of it."""
    from safetensors.torch import load_file

    home = tmp_path / "home"

    def state() -> bytes:
        found, _ = checkpoints.newest_verified(Home(home).checkpoints)
        assert found is not None
        kept: bytes = load_file(found.path / "rng.safetensors")["torch_cuda_0"].numpy().tobytes()
        return kept

    live(home, model_with_dropout, shards, "stop", 1)
    after_one = state()
    live(home, model_with_dropout, shards, "stop", 1)
    assert state() != after_one
