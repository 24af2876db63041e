"""Consolidation: the adapter is merged into the weights under it, and what came of that is checked before it counts.

Merging is arithmetic that can go wrong in silence (another precision, a layer that is left out, a file that is not what
was in memory). So the merged model is read back from the disk, and must say the same as weights and adapter did, logit
by logit, on real rows; only then does it get its name.

``python -m trainq.ml.consolidating`` does it in a child of whoever must not import torch: one JSON object
(:class:`Request`) on stdin, one on stdout, the facts or ``{"error": ..., "code": ...}``. It works on the processor:
what trains keeps the GPU's memory.

Shape suffixes: t tokens of a row, v vocabulary.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import torch

from trainq import __version__, checkpoints, files, manifests, merged, oneshot, room
from trainq.checkpoints import Verified
from trainq.config import Home
from trainq.errors import DamageError, InputError
from trainq.merged import MergedFacts
from trainq.ml import adapter, determinism, model
from trainq.shards import Shard
from trainq.textcodec import TextCodec

# Of each row so many tokens go through the model, and the logits of the last of them are compared: whether two models
# compute one function does not need more, and 16 rows of a vocabulary of 256,000 fit into two gigabytes.
_TOKENS, _POSITIONS = 512, 64
_ROWS_OF_A_FILE = 4


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked. ``parent`` is the pid of whoever asks: the child ends with it."""

    home: str
    source: str
    rows: int
    max_logit_delta: float
    threads: int
    parent: int = 0


def consolidate(home: Home, source: str, *, rows: int, max_logit_delta: float) -> MergedFacts:
    """Merge the adapter of generation ``source``, check it, and publish it in ``merged/``; one that is there is taken.

    Args:
        home: whose.
        source: a generation with an adapter.
        rows: on how many rows it is checked.
        max_logit_delta: how much a logit may differ.

    Raises:
        DamageError: the generation, or the weights under it, are not whole.
        InputError: the merged model says something else, or there is no row to check it with; nothing was published.
        StorageError, StorageFullError: the disk.
    """
    if merged.path_of(home, source).is_dir():
        try:
            return merged.verify(home, source)
        except DamageError:
            files.remove_tree(merged.path_of(home, source))
    found = checkpoints.verify(home.checkpoints / source)
    files.make_directory(home.merged)
    size_bytes = (found.weights or found.manifest).size_bytes
    # Once here and once more as the generation that goes on from it; known before nothing is trained for long.
    room.refuse_without(home.merged, 2 * size_bytes, f"the merged {source}, twice")
    rows_t = _rows(home, found, rows)
    if not rows_t:
        raise InputError("there is no prepared row in cache/ with which a merged model could be checked",
                         mend="submit a file first")
    adapted = adapter.load(model.load(found.weights_path), found.path)
    before = [_last_logits(adapted, row_t) for row_t in rows_t]
    plain = adapter.merge(adapted)
    with files.publish_directory(merged.path_of(home, source)) as folder:
        model.save(plain, model.read_companions(found.path), folder)
        del plain, adapted  # two at once may be more than the memory holds
        again = model.load(folder)
        deltas = [float((_last_logits(again, row_t) - was).abs().max())
                  for row_t, was in zip(rows_t, before, strict=True)]
        largest = float(torch.tensor(deltas).max())  # which is no number where one of them is none
        if not largest <= max_logit_delta:
            raise InputError(
                f"the merged model is not the same: a logit differs by {largest:.3g}, {max_logit_delta:g} is "
                f"allowed ([consolidation] max_logit_delta)", mend="the adapter is kept, and training goes on with it")
        facts = MergedFacts(source=source, adapter_of=found.facts.adapter_of, step=found.facts.step, rows=len(rows_t),
                            positions=sum(map(len, before)), max_logit_delta=largest,
                            created_by=f"trainq {__version__}")
        manifests.seal(folder, merged.KIND, msgspec.to_builtins(facts))
    return facts


def _rows(home: Home, found: Verified, count: int) -> list[torch.Tensor]:
    """The tokens of rows that were prepared for this model, of as many files as there are."""
    codec = TextCodec.load(found.path).digest
    rows: list[torch.Tensor] = []
    for path in sorted(home.cache.iterdir(), reverse=True) if home.cache.is_dir() else ():
        if len(rows) >= count or not (path / manifests.MANIFEST_NAME).is_file():
            continue
        try:
            with Shard.open(path, verify=False) as shard:
                if shard.facts.codec in ("", codec):
                    wanted = min(shard.rows, _ROWS_OF_A_FILE, count - len(rows))
                    rows += [torch.tensor(shard.row(at).token_ids[:_TOKENS]) for at in range(wanted)]
        except DamageError:
            continue  # it is made again for those who need it
    return rows


def _last_logits(any_model: torch.nn.Module, tokens_t: torch.Tensor) -> torch.Tensor:
    """The logits of the row's last positions, (t, v)."""
    any_model.eval()
    with torch.inference_mode():
        logits: torch.Tensor = any_model(input_ids=tokens_t.unsqueeze(0).long(), use_cache=False).logits
    return logits[0, -_POSITIONS:].float().clone()


def main() -> int:
    """Entry point of the child; gives the exit code."""
    return oneshot.serve(Request, _answer, process="consolidation", doing="merging the adapter")


def _answer(request: Request) -> MergedFacts:
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(request.threads)
    return consolidate(Home(Path(request.home)), request.source, rows=request.rows,
                       max_logit_delta=request.max_logit_delta)


if __name__ == "__main__":
    sys.exit(main())
