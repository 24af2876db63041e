"""What is wrong with the state in the head, as its generation says (``[guard]``)."""

from __future__ import annotations

from pathlib import Path

from trainq.retention import stock


class HeadMarks:
    """A generation is read once, and never changes."""

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._seen: tuple[str, tuple[str, ...]] = ("", ())

    def of(self, checkpoint: str) -> tuple[str, ...]:
        """Its marks; none if there is no generation of that name, or it cannot be read."""
        if self._seen[0] != checkpoint:
            facts = stock.read_facts(self._checkpoints / checkpoint) if checkpoint else None
            self._seen = (checkpoint, facts.marks if facts is not None else ())
        return self._seen[1]
