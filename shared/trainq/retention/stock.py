"""The stock: which copies of the model lie in a home, what each takes, and why some must stay. Reads only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from trainq import checkpoints, files, manifests, room, snapshots
from trainq.config import Home, RetentionSettings
from trainq.errors import DamageError, NewerFormatError, NotFoundError
from trainq.jobs import Store
from trainq.messages import Kept
from trainq.retention.rules import Item

# One that resumes, and one for the day on which that one does not verify.
LEAST_CHECKPOINTS = 2
_GIB = 1 << 30
_UNREADABLE = "its manifest cannot be read: nobody knows what depends on it"


def read(home: Home, kept: Kept, metric: str = "") -> list[Item]:
    """Every checkpoint and snapshot, with why it must stay if it must.

    Args:
        home: whose.
        kept: what the broker knows.
        metric: by which the best are told, where a rule asks for them.
    """
    wanted = {(Store.CHECKPOINTS, name): "the champion, who was it before, or is proposed" for name in kept.champions}
    wanted |= {(pin.store, pin.name): f"pinned: {pin.reason}" for pin in kept.pins}
    needed = _needed(home.checkpoints, [name for store, name in wanted if store is Store.CHECKPOINTS])
    items = (*_checkpoints(home, kept.checkpoint, metric), *_snapshots(home, metric))
    return [msgspec.structs.replace(item, must_stay=wanted.get((item.store, item.name)) or item.must_stay or (
        needed.get(item.name, "") if item.store is Store.CHECKPOINTS else "")) for item in items]


def _needed(folder: Path, names: list[str]) -> dict[str, str]:
    """{name: why} of the generations without which these are worth nothing, and of those without which those are."""
    found: dict[str, str] = {}
    for name in names:
        facts = read_facts(folder / name)
        for need in facts.needs if facts is not None else ():
            if need not in found:
                found[need] = f"{name} needs it"
                names.append(need)
    return found


def protected_checkpoints(folder: Path, head: str) -> dict[str, str]:
    """{name: why} of the generations that training may need; ``head`` is the one that the journal knows.

    The two newest; the newest whose state is not marked, with what it needs; the head; what it was published after;
    the state before the first step of the job in it, to which that job is taken back; and the weights under each
    adapter that is there.
    """
    names = [path.name for path in checkpoints.list_generations(folder)]
    reasons: dict[str, str] = {}
    for name in [name for name in dict.fromkeys((*names[:1], head)) if name in names]:
        facts = read_facts(folder / name)
        reasons.setdefault(name, "the head: training goes on from it")
        if facts is not None:
            reasons.setdefault(facts.base, f"the generation before the job in {name}")
            reasons.setdefault(facts.parent, f"the generation before {name}")
    for place, name in enumerate(names[:LEAST_CHECKPOINTS], start=1):
        reasons.setdefault(name, f"one of {LEAST_CHECKPOINTS} that always stay ({place})")
    known = {name: read_facts(folder / name) for name in names}
    unmarked = _newest_unmarked(known)
    reasons.setdefault(unmarked, "the newest whose state is not marked")
    if (found := known.get(unmarked)) is not None:
        reasons |= {name: f"{unmarked} needs it" for name in found.needs if name not in reasons}
    unreadable = next((name for name, facts in known.items() if facts is None), "")
    for name, facts in known.items():
        if facts is not None and not facts.has_weights:
            reasons.setdefault(facts.adapter_of, f"the weights under the adapter in {name}")
        elif facts is not None and facts.adapter_of and unreadable:
            reasons.setdefault(name, f"{unreadable} cannot be read, and may need the weights in it")
    reasons.pop("", None)
    return reasons


def to_be_proven(folder: Path) -> list[Path]:
    """The generations that must be whole before an older one may go.

    The newest ones, and the newest unmarked one with those without which it is worth nothing.
    """
    there = checkpoints.list_generations(folder)
    known = {path.name: read_facts(path) for path in there}
    unmarked = _newest_unmarked(known)
    facts = known.get(unmarked)
    wanted = {unmarked, *(facts.needs if facts is not None else ())}
    return there[:LEAST_CHECKPOINTS] + [path for path in there[LEAST_CHECKPOINTS:] if path.name in wanted]


def proving(folder: Path) -> str:
    """The generation that proves, once :func:`to_be_proven` are whole, that what it holds is trained for good.

    Whatever becomes of the newest ones, and of all whose state is marked, it or an older one can be gone back to: the
    older of the two that always stay and of the newest unmarked one. Empty if there are too few, or none is unmarked.
    """
    there = checkpoints.list_generations(folder)
    unmarked = _newest_unmarked({path.name: read_facts(path) for path in there})
    names = [path.name for path in there]
    if len(names) < LEAST_CHECKPOINTS or not unmarked:
        return ""
    return names[max(LEAST_CHECKPOINTS - 1, names.index(unmarked))]


def _newest_unmarked(newest_first: dict[str, checkpoints.CheckpointFacts | None]) -> str:
    """The name of the newest whose state is good, as far as is known; empty if there is none."""
    return next((name for name, facts in newest_first.items() if facts is not None and not facts.is_bad), "")


def read_facts(path: Path) -> checkpoints.CheckpointFacts | None:
    """The facts of a checkpoint; None if they cannot be read."""
    try:
        return checkpoints.read_facts(path)
    except (DamageError, NewerFormatError):
        return None


def used_bytes(*folders: Path) -> int:
    """What all files below ``folders`` take on the disk, each inode once, however many names it has."""
    seen: dict[tuple[int, int], int] = {}
    for folder in folders:
        for path in files.list_tree(folder) if folder.is_dir() else ():
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue  # removed meanwhile
            seen[found.st_dev, found.st_ino] = found.st_blocks * 512  # stat(2): always in units of 512
    return sum(seen.values())


def total_bytes(home: Home) -> int:
    """All that counts against the budget: everything stored, the trash too."""
    return used_bytes(home.checkpoints, home.snapshots, home.merged, home.data, home.cache, home.metrics,
                      home.rejected, home.logs, home.evaluations, home.trash)


def excess_bytes(home: Home, settings: RetentionSettings, *, with_trash: bool = False) -> int:
    """How much too much the home takes, or the disk lacks, once the trash is emptied; 0 if neither.

    ``with_trash``: as it is now, with the trash in it.
    """
    trashed = 0 if with_trash else used_bytes(home.trash)
    over = total_bytes(home) - trashed - int(settings.budget_gib * _GIB) if settings.budget_gib else 0
    lacking = (int(settings.min_free_gib * _GIB) - room.free_bytes(home.root) - trashed) if settings.min_free_gib else 0
    return max(over, lacking, 0)


def _checkpoints(home: Home, head: str, metric: str) -> list[Item]:
    protected = protected_checkpoints(home.checkpoints, head)
    items = []
    for path in checkpoints.list_generations(home.checkpoints):
        name = checkpoints.parse_name(path.name)
        assert name is not None
        facts = read_facts(path)
        why = protected.get(path.name, "") or ("" if facts is not None else _UNREADABLE)
        items.append(Item(store=Store.CHECKPOINTS, name=path.name, generation=name.generation, at=_made_at(path),
                          size_bytes=used_bytes(path), must_stay=why,
                          metric=facts.metrics.get(metric) if facts is not None else None,
                          marks=facts.marks if facts is not None else ()))
    return items


def _snapshots(home: Home, metric: str) -> list[Item]:
    found: dict[Path, snapshots.Snapshot | None] = {}
    for path in snapshots.list_snapshots(home.snapshots):
        try:
            found[path] = snapshots.find(home.snapshots, path.name)
        except (DamageError, NewerFormatError, NotFoundError):
            found[path] = None
    named = Counter(digest for each in found.values() if each for digest in _digests(each))
    newest = next((path for path, each in found.items() if each), None)
    unmarked = next((path for path, each in found.items() if each and not each.marks), None)
    needed = snapshots.needed(each for each in found.values() if each)
    items = []
    for path, each in found.items():
        name = checkpoints.parse_name(path.name)
        assert name is not None
        why = "" if each else _UNREADABLE
        why = f"{needed[path.name]} needs it" if path.name in needed else why
        why = "the newest whose state is not marked" if path == unmarked else why
        why = "the newest snapshot" if path == newest else why
        own = sum(size for digest, size in _digests(each).items() if named[digest] == 1) if each else 0
        items.append(Item(store=Store.SNAPSHOTS, name=path.name, generation=name.generation,
                          at=each.facts.created_at if each else 0.0, size_bytes=own, must_stay=why,
                          metric=snapshots.checkpoint_facts(each).metrics.get(metric) if each else None,
                          marks=each.marks if each else ()))
    return items


def _digests(snapshot: snapshots.Snapshot) -> dict[str, int]:
    return {record.blake3: record.size_bytes for record in snapshot.manifest.files.values()}


def _made_at(path: Path) -> float:
    try:
        return (path / manifests.MANIFEST_NAME).stat().st_mtime
    except OSError:
        return 0.0
