"""Merged models: what a consolidation has made, until the line goes on from it.

``merged/<the generation whose adapter was merged>/`` is a sealed directory (:mod:`trainq.manifests`, kind ``merged``)
with a plain model and its tokenizer. It is a means and no copy to keep: the generation that goes on from it holds the
same weights. Only the consolidator writes here. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from trainq import checkpoints, files, manifests
from trainq.config import Home

KIND = "merged"
FORMAT = 1


class MergedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest's facts: which adapter went into which weights, and how the result was checked.

    ``max_logit_delta`` is the largest difference of a logit between it and weights and adapter, over ``positions``
    tokens of ``rows`` rows.
    """

    source: str
    adapter_of: str
    step: int
    rows: int
    positions: int
    max_logit_delta: float
    created_by: str
    format: int = FORMAT


def path_of(home: Home, source: str) -> Path:
    """Where the merged model of that generation lies, or would lie."""
    return home.merged / source


def verify(home: Home, source: str) -> MergedFacts:
    """Prove every byte of it.

    Raises:
        DamageError: it is not there, or not whole.
        NewerFormatError: a newer trainq wrote it.
        StorageError: it could not be read, which proves nothing.
    """
    path = path_of(home, source)
    return manifests.facts_of(path, manifests.verify(path, KIND), MergedFacts, FORMAT)


def remove_all(home: Home) -> list[str]:
    """Remove every merged model, and what a killed merge has left; gives the names. The caller owns the folder."""
    files.sweep_temporaries(home.merged)
    names = [path.name for path in checkpoints.list_generations(home.merged)]
    for name in names:
        files.remove_tree(home.merged / name)
    return names
