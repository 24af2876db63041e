"""Rebasing: the line goes on from a merged model, with a fresh adapter and a fresh optimizer; its counters go on.

The weights are those that :mod:`trainq.ml.consolidating` has checked. What is drawn for the fresh adapter is a function
of the seed and the line's step alone, so that it can be derived again.
"""

from __future__ import annotations

import msgspec

from trainq import checkpoints, merged
from trainq.config import Home, LoraSettings
from trainq.errors import UsageError
from trainq.ml import adapter, determinism, model
from trainq.ml.line import ModelLine, assemble


def rebased(line: ModelLine, home: Home, source: str, lora: LoraSettings, seed: int, *,
            warmup: bool) -> ModelLine:
    """The line on the merged weights of its head, not published yet; ``line`` is released for it.

    A head without an adapter is taken as it is: its weights are what an adapter is put on. With ``lora.rank`` 0 there
    is none: from there on all weights are trained.

    Args:
        line: as it stands, all of it published.
        home: whose.
        source: the head by name, whose adapter was merged.
        lora: what the fresh adapter is to be.
        seed: from which it is drawn.
        warmup: whether the fresh optimizer is warmed up (:mod:`trainq.ml.schedules`).

    Raises:
        UsageError: the line does not stand at ``source``, or is in the middle of a job. ``line`` is as it was.
        DamageError: the merged model is not there or not whole. ``line`` is as it was.
        InputError: no such adapter fits the model; ``line`` is released by then.
        StorageError: it could not be read.
    """
    head = line.head
    if head is None or head.name != source or line.facts.step != head.step:
        raise UsageError(f"the line stands at {head.name if head else 'nothing'}, and {source} was merged",
                         mend="trainq consolidate merges what it is now")
    if head.cursor.job and not head.cursor.done:
        raise UsageError(f"{source} is in the middle of {head.cursor.job}", mend="trainq consolidate when it has ended")
    if head.adapter_of:
        merged.verify(home, source)
        folder = merged.path_of(home, source)
    else:
        folder = checkpoints.verify(home.checkpoints / source).path
    line.release()
    loaded = model.load(folder)
    # Twice, so that what follows does not depend on how many numbers the adapter takes.
    drawn_from = (seed + head.step) % 2**31
    if lora.rank:
        determinism.seed(drawn_from)
        loaded = adapter.wrap(loaded, lora)
    determinism.seed(drawn_from)
    facts = msgspec.structs.replace(head, adapter_of="", optimizer_since=head.step if warmup else head.optimizer_since)
    again = assemble(loaded, line.companions, facts, head=head)
    again.ledger, again.generation_floor = line.ledger, line.generation_floor
    return again
