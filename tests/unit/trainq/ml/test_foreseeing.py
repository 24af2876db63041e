"""The loss of a row is that of the row alone, over what training trains of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from trainq.ml import foreseeing, model
from trainq.ml.answering import TimeIsOverError
from trainq.samples import ChatSample, Message, Sample, TextSample
from trainq.textcodec import TextCodec

# A model is loaded in each of them.
pytestmark = pytest.mark.slow

SAMPLES: list[Sample] = [
    ChatSample((Message("user", "two?"), Message("assistant", "2"), Message("user", "x"), Message("assistant", "yes"))),
    TextSample("a text"), TextSample("a longer text of more tokens"), ChatSample((Message("user", "?"),
                                                                                  Message("assistant", "!")))]


def test_each_row_has_its_own_mean_whatever_the_batch(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, codec = model.load(tiny_model), TextCodec.load(tiny_model)
    made.eval()
    rows = [codec.encode(sample, 64) for sample in SAMPLES]
    told: list[int] = []
    found = foreseeing.losses(made, rows, batch_rows=3, deadline=math.inf, told=told.append)
    assert told == [3, 4]
    for row, foreseen in zip(rows, found, strict=True):
        with torch.inference_mode():
            logits_tv = made(input_ids=torch.tensor([row.token_ids])).logits[0]
        surprise_t = -logits_tv[:-1].log_softmax(-1)[torch.arange(len(row.token_ids) - 1), row.token_ids[1:]]
        trained_t = torch.tensor(row.trained[1:])
        assert foreseen.tokens == int(trained_t.sum())
        assert foreseen.loss == pytest.approx(float(surprise_t[trained_t].mean()), rel=1e-5)
    assert [foreseen.tokens for foreseen in found] == [6, 7, 29, 2]
    assert foreseeing.passes(made, rows, 3) == [([2, 0, 1], 30, 30), ([3], 7, 7)]
    # One that has less room for logits takes fewer rows at once, and of a long one a piece, and comes to the same.
    for room, shapes in ((4 * 262 * 12, [(1, 30, 12), (1, 18, 12)]), (1, [(1, 30, 1)])):
        monkeypatch.setattr(foreseeing, "_LOGITS_BYTES", room)
        cut = foreseeing.passes(made, rows, 3)
        assert [(len(each.rows), each.tokens, each.at_once) for each in cut][:len(shapes)] == shapes
        again = foreseeing.losses(made, rows, batch_rows=3, deadline=math.inf)
        assert [each.loss for each in again] == pytest.approx([each.loss for each in found], rel=1e-5)
    with pytest.raises(TimeIsOverError):
        foreseeing.losses(made, rows, batch_rows=3, deadline=0.0)
