"""Sealed generations for tests that need none that was trained."""

from __future__ import annotations

from pathlib import Path

import msgspec

from trainq import cards, checkpoints, files, manifests
from trainq.checkpoints import CheckpointFacts, Cursor, Name
from trainq.manifests import Manifest


def bits_of(manifest: Manifest) -> dict[str, str]:
    """The digests of a generation's files, but for its card: that says its own number, and its parent's."""
    return {name: record.blake3 for name, record in manifest.files.items() if name != cards.NAME}


def _cursor(job: str, *, done: bool) -> Cursor:
    return Cursor(job=job, job_step=2 if done else 1, steps_planned=2, done=done) if job else Cursor()


def publish(folder: Path, generation: int, content: dict[str, bytes], *, base: str = "", parent: str = "",
            job: str = "", adapter_of: str = "", marks: tuple[str, ...] = (), done: bool = True) -> str:
    """Seal a generation with these files in ``folder``; its name. Its step is ten times its number.

    ``job`` has ended in it, or is in its middle. ``adapter_of`` ``self``: it holds the weights under its own adapter.
    """
    own = str(Name(generation, generation * 10))
    facts = CheckpointFacts(
        generation=generation, step=generation * 10, cursor=_cursor(job, done=done), journal_seq=1, fingerprint={},
        rows_seen=0, tokens_seen=0, model="m", created_by="test", reason="job_end", base=base, parent=parent,
        adapter_of=own if adapter_of == "self" else adapter_of, marks=marks)
    path = folder / own
    files.make_directory(folder)
    with files.publish_directory(path) as made:
        for name, each in content.items():
            (made / name).write_bytes(each)
        manifests.seal(made, checkpoints.KIND, msgspec.to_builtins(facts))
    return path.name
