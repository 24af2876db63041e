"""Anchoring: the checkpoints say how far they have seen the journal, so a journal that lost its end is noticed.

A backup put back, a disk that forgot what it had confirmed, another home's journal: written on, it would give numbers
that are taken, and train again what is trained. What the checkpoints prove is read here; nothing is changed.
"""

from __future__ import annotations

from pathlib import Path

from trainq import checkpoints, manifests
from trainq.errors import DamageError, NewerFormatError, StorageError

# The newest ones know most; more are read only when those do not prove to be what their writer sealed.
GENERATIONS_READ = 3


def refuse_if_behind(folder: Path, head_seq: int) -> DamageError | None:
    """What is wrong if a checkpoint has seen more of the journal than there is; None if none has.

    Args:
        folder: the checkpoints.
        head_seq: the journal's newest event.
    """
    for path in checkpoints.list_generations(folder)[:GENERATIONS_READ]:
        try:
            seen = int(manifests.read(path, checkpoints.KIND).facts.get("journal_seq", 0))
        except (DamageError, NewerFormatError, StorageError, TypeError, ValueError):
            continue  # the trainer tells of it
        if seen > head_seq:
            return DamageError(
                "the journal", f"the checkpoint {path.name} has seen its event {seen}, and it ends at {head_seq}: it "
                "is older than the checkpoints, or another home's", mend="bring back the journal that belongs to them; "
                "until then nothing is written to it")
    return None
