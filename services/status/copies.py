"""Looking at the copies of the model that lie in the home: the last generations and snapshots. Reads manifests only."""

from __future__ import annotations

from pathlib import Path

from trainq import checkpoints, snapshots
from trainq.config import Home
from trainq.errors import TrainqError
from trainq.figures import Generation, SnapshotFigure

GENERATIONS, SNAPSHOTS = 5, 3
_UNREADABLE = ("its manifest cannot be read",)


class Copies:
    """What was read once never changes, and is not read again."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._generations: dict[str, Generation] = {}
        self._snapshots: dict[str, SnapshotFigure] = {}

    def last_generations(self) -> tuple[Generation, ...]:
        """The newest generations, the newest first."""
        paths = checkpoints.list_generations(self._home.checkpoints)[:GENERATIONS]
        found = [self._generations.get(path.name) or _generation(path) for path in paths]
        shown = tuple(each for each in found if each is not None)
        self._generations = {each.name: each for each in shown if each.marks != _UNREADABLE}
        return shown

    def last_snapshots(self) -> tuple[SnapshotFigure, ...]:
        """The newest snapshots, the newest generation first."""
        paths = snapshots.list_snapshots(self._home.snapshots)[:SNAPSHOTS]
        found = [self._snapshots.get(path.name) or _snapshot(path) for path in paths]
        shown = tuple(each for each in found if each is not None)
        self._snapshots = {each.name: each for each in shown if each.marks != _UNREADABLE}
        return shown


def _generation(path: Path) -> Generation | None:
    name = checkpoints.parse_name(path.name)
    try:
        # The manifest is the last that is written before the generation gets its name.
        at = path.stat().st_mtime
        facts = checkpoints.read_facts(path)
    except FileNotFoundError:
        return None  # retention has just taken it
    except (TrainqError, OSError):
        facts, at = None, 0.0
    if name is None:
        return None
    return Generation(name=path.name, generation=name.generation, step=name.step, at=at,
                      reason=facts.reason if facts else "", job=facts.cursor.job if facts else "",
                      marks=facts.marks if facts else _UNREADABLE)


def _snapshot(path: Path) -> SnapshotFigure | None:
    name = checkpoints.parse_name(path.name)
    if name is None:
        return None
    try:
        found = snapshots.read(path)
    except (TrainqError, OSError):
        return SnapshotFigure(name=path.name, generation=name.generation, step=name.step, at=0.0,
                              marks=_UNREADABLE)
    return SnapshotFigure(name=path.name, generation=name.generation, step=name.step, at=found.facts.created_at,
                          size_bytes=found.size_bytes, jobs=found.facts.jobs, marks=found.marks)
