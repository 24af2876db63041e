"""Pruning: old backups of a folder go by rules, and with them the content that no other backup names.

The rules are those of :mod:`trainq.retention.rules`, joined by OR; only backups of one journal count against each
other. The order is by the journal's number; and because a line that was restored from an old backup begins below
numbers that were reached before, what the order of making keeps is kept, too, as the file system has it and as the
backups say. So a clock that jumped, like a line that was left, only makes more stay; both together may not.

The newest that is whole always stays, and so does the newest of those whose model is not marked (``[guard]``): they are
proven before anything goes. A backup goes by one rename of its manifest's
folder; killed anywhere, what is listed is whole, and the next prune collects the content that is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainq import backups, files, manifests, objects
from trainq.backups import Backup
from trainq.errors import DamageError, NewerFormatError, NotFoundError, StorageError, UsageError
from trainq.manifests import OnChunk
from trainq.retention.rules import Buckets, kept_by

_MEND = "name the folder that trainq backup create was given"

Proof = Callable[[str], Sequence[str]]
"""Gives what is wrong with the backup of that name, byte for byte."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a backup, and why. ``size_bytes`` is what it alone holds; ``at`` in seconds since 1970.

    ``fault`` is damage that was found on the way; not every backup is proven. Of one that cannot be read, the facts are
    empty.
    """

    backup: str
    journal_id: str = ""
    seq: int = 0
    at: float = 0.0
    size_bytes: int = 0
    keep: bool
    reasons: tuple[str, ...]
    fault: str = ""


class Plan(NamedTuple):
    """The verdicts, the last made first; what is freed; and why no content may go, if none may."""

    verdicts: list[Verdict]
    freed_bytes: int
    objects_stay: str

    @property
    def going(self) -> list[str]:
        """The names of those that go."""
        return [verdict.backup for verdict in self.verdicts if not verdict.keep]


class _Dated(NamedTuple):
    name: str
    at: float


def plan(store: Path, rules: Buckets, on_chunk: OnChunk) -> Plan:
    """What :func:`apply` would do; changes nothing.

    Raises:
        UsageError: the rules keep nothing.
        NotFoundError: the folder is not there.
        StorageError: something could not be read, which proves nothing.
    """
    decided = _decide(store, rules, lambda name: backups.faults_of(store, name, on_chunk))
    left = objects.unreferenced(store, decided.named) if not decided.objects_stay else ()
    return Plan(decided.verdicts, sum(path.stat().st_size for path in left), decided.objects_stay)


def apply(store: Path, rules: Buckets, on_chunk: OnChunk, *, spare: str = "") -> Plan:
    """Let go of what no rule keeps, the oldest first, and of the content that nothing names; says what went.

    Args:
        store: the folder of backups; the caller holds its lock (:func:`objects.writing`).
        rules: joined by OR.
        on_chunk: may raise; then some are gone and the others whole.
        spare: a backup that stays whatever the rules say.

    Raises:
        UsageError, NotFoundError, StorageError: as :func:`plan`.
    """
    decided = _decide(store, rules, lambda name: backups.verify(store, name, on_chunk), spare)
    if not decided.objects_stay:
        files.sweep_temporaries(store, *(store / objects.FOLDER).glob("*"))
    for verdict in reversed(decided.verdicts):
        if not verdict.keep:
            on_chunk(0)
            files.remove_tree(store / verdict.backup)
    freed = 0
    for path in list(objects.unreferenced(store, decided.named)) if not decided.objects_stay else ():
        on_chunk(0)
        size_bytes = path.stat().st_size
        files.remove_file(path)
        freed += size_bytes
    return Plan(decided.verdicts, freed, decided.objects_stay)


def refuse_without_folder(store: Path) -> None:
    """Raise :class:`~trainq.errors.NotFoundError` if there is no such folder."""
    if not store.is_dir():
        raise NotFoundError(f"there is no folder {store}", mend=_MEND)


class _Decided(NamedTuple):
    """``named`` are the digests of what the backups hold that stay."""

    verdicts: list[Verdict]
    named: Collection[str]
    objects_stay: str


def _decide(store: Path, rules: Buckets, faults_of: Proof, spare: str = "") -> _Decided:
    if not any(msgspec.structs.astuple(rules)):
        raise UsageError("these rules keep nothing", mend="give one of --last, --daily, --weekly and --monthly")
    refuse_without_folder(store)
    found = {path.name: _read(path) for path in backups.list_backups(store)}
    if not found:
        raise NotFoundError(f"there is no backup in {store}", mend=_MEND)
    sound = {name: each for name, each in found.items() if isinstance(each, Backup)}
    holders = Counter(digest for each in sound.values() for digest in _sizes(each))
    reasons: dict[str, list[str]] = {}
    faults: dict[str, str] = {}
    for journal_id in dict.fromkeys(each.facts.journal_id for each in sound.values()):
        own = [each for each in sound.values() if each.facts.journal_id == journal_id]
        reasons |= _reasons(own, rules, faults_of, spare, faults)
    verdicts, named = list[Verdict](), set[str]()
    for name, each in found.items():
        if isinstance(each, str):
            verdicts.append(Verdict(backup=name, keep=True, reasons=(f"its manifest cannot be read: {each}",)))
            continue
        sizes, why = _sizes(each), reasons[name]
        verdicts.append(Verdict(
            backup=name, journal_id=each.facts.journal_id, seq=each.facts.seq, at=each.facts.created_at,
            size_bytes=sum(size for digest, size in sizes.items() if holders[digest] == 1), keep=bool(why),
            reasons=tuple(why) or ("no rule keeps it",), fault=faults.get(name, "")))
        named |= sizes.keys() if why else set()
    return _Decided(verdicts, named, _why_content_stays(store, found, sound))


def _why_content_stays(store: Path, found: Collection[str], sound: Collection[str]) -> str:
    """Why no content may go whatever the backups name; empty if it may.

    A folder of snapshots, and a place to which they are copied, have their content in a folder of the same name.
    """
    unreadable = next((name for name in found if name not in sound), "")
    if unreadable:
        return f"nobody knows what {unreadable} needs, so all content stays"
    foreign = next((path.name for path in sorted(store.iterdir()) if path.name not in found
                    and not path.name.startswith(files.TEMPORARY_PREFIX)
                    and (path / manifests.MANIFEST_NAME).exists()), "")
    return f"{foreign} is no backup, and may need it, so all content stays" if foreign else ""


def _read(path: Path) -> Backup | str:
    """The backup, or why it cannot be read."""
    try:
        return backups.read(path)
    except (DamageError, NewerFormatError, StorageError) as error:
        return str(error)


def _sizes(backup: Backup) -> dict[str, int]:
    return {record.blake3: record.size_bytes for record in backup.manifest.files.values()}


def _reasons(last_made_first: Sequence[Backup], rules: Buckets, faults_of: Proof, spare: str,
             faults: dict[str, str]) -> dict[str, list[str]]:
    """Why each of these, all of one journal, stays; nothing for those that go. ``faults`` gets those that it proves."""
    by_number = sorted(last_made_first, key=lambda each: (each.facts.seq, each.name), reverse=True)
    by_word = sorted(last_made_first, key=lambda each: (each.facts.created_at, each.name), reverse=True)
    reasons: dict[str, list[str]] = {each.name: [] for each in last_made_first}
    if spare in reasons:
        reasons[spare].append("it was made just now")
    for name, why in kept_by(rules, _dated(by_number)).items():
        reasons[name] += why
    for order in (last_made_first, by_word):
        for name, why in kept_by(rules, _dated(order)).items():
            if not reasons[name]:
                reasons[name] += [f"{each}, by when it was made" for each in why]
    if all(reasons.values()):
        return reasons
    whole = [_newest_whole(order, faults, faults_of) for order in (by_number, last_made_first, by_word)]
    if "" in whole:
        return {name: why or ["none of this home is whole"] for name, why in reasons.items()}
    for name in dict.fromkeys(whole):
        reasons[name].insert(0, "the newest that is whole")
    unmarked = [_newest_whole([each for each in order if not each.facts.marks], faults, faults_of)
                for order in (by_number, last_made_first, by_word)]
    for name in dict.fromkeys(unmarked):
        if name and name not in whole:
            reasons[name].insert(0, "the newest that is whole, and whose model is not marked")
    return reasons


def _newest_whole(order: Sequence[Backup], faults: dict[str, str], faults_of: Proof) -> str:
    """The first that is whole; empty if none is. ``faults`` has what was found out so far, and gets the rest."""
    for each in order:
        if each.name not in faults:
            faults[each.name] = next(iter(faults_of(each.name)), "")
        if not faults[each.name]:
            return each.name
    return ""


def _dated(found: Sequence[Backup]) -> list[_Dated]:
    return [_Dated(each.name, each.facts.created_at) for each in found]
