"""Writing beside the loop: one in flight, its end taken once, failures kept; no torch in it; no number that is none."""

from __future__ import annotations

import ast
import errno
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from trainq import cards, checkpoints, crashpoints, diskfaults
from trainq.checkpoints import CheckpointFacts, Cursor
from trainq.config import Home
from trainq.errors import InputError, StorageError
from trainq.ml import writing
from trainq.ml.hostmemory import host_tensor
from trainq.ml.writing import Staged, TensorFile, Writer

FACTS = CheckpointFacts(generation=0, step=3, cursor=Cursor(), journal_seq=1, fingerprint={}, rows_seen=0,
                        tokens_seen=0, model="m", created_by="test", reason="interval")
KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def staged(*tensors: torch.Tensor, checked: bool = True) -> Staged:
    named = {str(index): host_tensor(tensor) for index, tensor in enumerate(tensors)}
    return Staged(facts=FACTS, above=4, holds_weights_under_adapter=False, files={
        "state.json": b"{}\n", "adapter/deep.bin": b"12",
        "t.safetensors": TensorFile(tensors=named, checked=frozenset(named if checked else ()))})


def nothing() -> None:
    pass


def test_the_writer_reaches_no_torch() -> None:
    """A helper thread that has used torch once makes every CPU step of the process slower."""
    tree = ast.parse(Path(writing.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.split(".")[0] == "torch" or name.startswith("trainq.ml")
                or name == "safetensors.torch"}


def test_what_is_written_is_what_safetensors_writes(home: Home) -> None:
    tensors = [torch.arange(6.0).reshape(2, 3), torch.tensor(1.5), torch.arange(4, dtype=torch.int64),
               torch.zeros(0, 3), torch.arange(6.0).reshape(2, 3).t(), torch.tensor([True, False]),
               torch.ones(3, dtype=torch.bfloat16)]
    written = writing.write(staged(*tensors), home)
    content = (written.path / "t.safetensors").read_bytes()
    assert content == save({str(index): tensor.contiguous() for index, tensor in enumerate(tensors)})
    assert torch.equal(load(content)["4"], tensors[4])
    assert (written.path / "adapter" / "deep.bin").read_bytes() == b"12"
    size_bytes = len(content) + 5 + len(cards.text(written.facts))
    assert (written.facts.name, written.size_bytes) == ("g000005-s00000003", size_bytes)
    assert checkpoints.verify(written.path).facts == written.facts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused_wherever_it_is(kind: torch.dtype, bad: float, home: Home) -> None:
    for place in (0, 2_000_000, 2_500_000):
        tensor = torch.ones(2_500_001, dtype=kind)
        tensor[place] = bad
        with pytest.raises(InputError, match="not a finite number"):
            writing.write(staged(torch.zeros(3), tensor), home)
    assert not checkpoints.list_generations(home.checkpoints)
    writing.write(staged(tensor, checked=False), home)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_and_smallest_numbers_are_numbers(kind: torch.dtype, home: Home) -> None:
    limits = torch.finfo(kind)
    tensor = torch.tensor([limits.max, limits.min, limits.tiny, limits.smallest_normal / 2, 0.0, -0.0], dtype=kind)
    writing.write(staged(tensor, torch.arange(3)), home)


def test_every_float16_is_judged_as_numpy_does() -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16)
    told = np.array([host_tensor(torch.from_numpy(numbers[at:at + 1]).view(torch.float16)).is_finite
                     for at in range(0, 1 << 16, 7)])
    assert (told == np.isfinite(numbers.view(np.float16))[::7]).all()


def test_one_is_in_flight_at_most_and_its_end_is_taken_once(home: Home) -> None:
    writer, go_on = Writer(), threading.Event()
    assert writer.take() is None
    writer.wait()
    writer.begin(staged(torch.ones(2)), home, go_on.wait)
    assert (writer.is_busy, writer.take()) == (True, None)
    with pytest.raises(ValueError, match="written already"):
        writer.begin(staged(torch.ones(2)), home, nothing)
    assert checkpoints.list_generations(home.checkpoints) == []
    go_on.set()
    writer.wait()
    assert writer.is_busy, "until its end is taken"
    ended = writer.take()
    assert ended is not None
    written, error = ended
    assert error is None
    assert written is not None
    assert home.current.resolve() == written.path.resolve()
    assert (writer.is_busy, writer.take()) == (False, None)
    writer.begin(staged(torch.ones(2)), home, nothing)
    writer.wait()
    assert not [each for each in threading.enumerate() if each.name == "checkpoint-writer"], "none between two"


def test_what_it_fails_with_is_kept(home: Home) -> None:
    writer = Writer()
    for error in ("EIO", "ENOSPC"):
        writer.begin(staged(torch.ones(2)), home, lambda error=error: diskfaults.arm(error, 3, for_ever=False))
        writer.wait()
        assert diskfaults.disarm()[1] == 1
        ended = writer.take()
        assert ended is not None
        assert (ended[0], isinstance(ended[1], StorageError) or type(ended[1]).__name__ == "StorageFullError") == (
            None, True)
    assert checkpoints.list_generations(home.checkpoints) == []


def test_a_generation_whose_link_fails_is_published_all_the_same(home: Home) -> None:
    home.current.mkdir()  # which no link replaces
    writer = Writer()
    writer.begin(staged(torch.ones(2)), home, nothing)
    writer.wait()
    ended = writer.take()
    assert ended is not None
    assert ended[0] is not None
    assert isinstance(ended[1], StorageError)
    assert [path.name for path in checkpoints.list_generations(home.checkpoints)] == [ended[0].facts.name]


def test_a_crash_point_met_beside_the_loop_ends_the_process(home: Home) -> None:
    pid = os.fork()
    if pid == 0:
        crashpoints.arm("checkpoint.published", 1)
        writer = Writer()
        writer.begin(staged(torch.ones(2)), home, nothing)
        time.sleep(60)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert len(checkpoints.list_generations(home.checkpoints)) == 1


def test_the_systems_error_is_found_behind_what_libraries_raise() -> None:
    first = OSError(errno.EMFILE, "Too many open files")
    wrapped = OSError("Can't load the model")
    wrapped.__cause__ = RuntimeError("x")
    wrapped.__cause__.__context__ = first
    assert writing.os_error_number(wrapped) == errno.EMFILE
    assert writing.os_error_number(ValueError("I/O error: Input/output error (os error 5)")) == errno.EIO
    assert writing.os_error_number(ValueError("no error of the system")) is None


def test_a_process_that_is_politer_than_the_writer_writes_all_the_same(
        home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be less polite than one is needs a right: the writer asks for no more than it has."""
    asked: list[int] = []
    monkeypatch.setattr(os, "getpriority", lambda *_: 12)
    monkeypatch.setattr(os, "setpriority", lambda _which, _who, niceness: asked.append(niceness))
    writer = Writer()
    writer.begin(staged(torch.ones(2)), home, lambda: None)
    writer.wait()
    ended = writer.take()
    assert ended is not None
    assert ended[1] is None
    assert asked == [12]


def test_politeness_that_is_refused_hinders_no_write(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "setpriority", refuse)
    writer = Writer()
    writer.begin(staged(torch.ones(2)), home, lambda: None)
    writer.wait()
    ended = writer.take()
    assert ended is not None
    assert ended[1] is None
