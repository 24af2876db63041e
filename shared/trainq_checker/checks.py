"""What must be true of a home, each check by itself: it gives one line with numbers, or says what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainq_checker import enclosed, reading
from trainq_checker.history import History, Job, fold
from trainq_checker.reading import BrokenError, Generation, JournalCopy

_SHOWN = 5
_ENDS = ("rejected", "cancelled", "quarantined", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything that the checks look at. ``proven`` has the facts of the generations that verify, newest first.

    ``removed`` has the facts of those in the trash that verify, by their folders.

    ``strict``: nothing may be left unproven, and nothing have changed what computes.
    """

    home: Path
    journal: JournalCopy
    history: History
    generations: list[Generation]
    proven: dict[str, dict[str, Any]]
    broken: list[str]
    removed: dict[Path, dict[str, Any]] = field(default_factory=dict)
    driver: Path | None = None
    receipts: Path | None = None
    allow_open: bool = False
    strict: bool = False


@dataclass(slots=True)
class Tally:
    """Mistakes found by one check."""

    wrong: list[str] = field(default_factory=list)

    def settle(self, good: str) -> str:
        """``good`` if nothing was wrong.

        Raises:
            BrokenError: with the number of mistakes and the first of them.
        """
        if self.wrong:
            more = f" (and {len(self.wrong) - _SHOWN} more)" if len(self.wrong) > _SHOWN else ""
            raise BrokenError(f"{len(self.wrong)} wrong: {'; '.join(self.wrong[:_SHOWN])}{more}")
        return good


def gather(home: Path, *, driver: Path | None, receipts: Path | None, allow_open: bool, strict: bool) -> Evidence:
    """Read the home. Damage in a generation is collected; a journal that cannot be read is raised."""
    journal = reading.read_journal(home)
    generations = reading.list_generations(home / "checkpoints")
    proven: dict[str, dict[str, Any]] = {}
    broken: list[str] = []
    for generation in generations:
        if generation.damaged:
            continue
        try:
            proven[generation.path.name] = reading.prove(generation.path, "checkpoint")["facts"]
        except BrokenError as error:
            broken.append(str(error))
    removed: dict[Path, dict[str, Any]] = {}
    for path in sorted((home / "trash").glob("*-checkpoints-g*"), reverse=True):
        try:
            removed[path] = reading.prove(path, "checkpoint")["facts"]
        except BrokenError as error:
            broken.append(str(error))
    return Evidence(home=home, journal=journal, history=fold(journal.events), generations=generations, proven=proven,
                    broken=broken, removed=removed, driver=driver, receipts=receipts, allow_open=allow_open,
                    strict=strict)


def check_chain(evidence: Evidence) -> str:
    """Each event is there, and what it was when it was written."""
    tally, previous, events = Tally(), bytes(32), evidence.journal.events
    for expected, event in enumerate(events, start=1):
        fields = event.fields
        if event.seq != expected:
            raise BrokenError(f"event {expected} is missing; {event.seq} follows {expected - 1}")
        if reading.chained(previous, event) != event.hash:
            raise BrokenError(f"event {event.seq} ({event.type}) is not what its hash says")
        if fields.get("type") != event.type or (fields.get("job") or None) != event.job:
            tally.wrong.append(f"event {event.seq} is {fields.get('type')}, its columns say {event.type} {event.job}")
        previous = event.hash
    for name, facts in evidence.proven.items():
        if facts["journal_seq"] > len(events):
            tally.wrong.append(f"{name} has seen event {facts['journal_seq']}, the journal ends at {len(events)}")
    return tally.settle(f"{len(events)} events, no gap, each hash covers the one before")


def check_receipts(evidence: Evidence) -> str:
    """What was acknowledged is in the journal once, under the job that was named."""
    history, tally = evidence.history, Tally()
    for request, uses in history.requests.items():
        if len(uses) > 1:
            tally.wrong.append(f"request {request} is in the journal {len(uses)} times (events {[u[0] for u in uses]})")
    receipts = reading.read_receipts(evidence.receipts) if evidence.receipts else []
    for receipt in receipts:
        uses = history.requests.get(receipt["request_id"], [])
        job = history.jobs.get(receipt["job"])
        if not uses:
            tally.wrong.append(f"request {receipt['request_id']} ({receipt['job']}) was acknowledged and is not there")
        elif uses[0][1] != receipt["job"] or job is None or job.submitted["digest"] != receipt["digest"]:
            tally.wrong.append(f"request {receipt['request_id']} was acknowledged as {receipt['job']} with "
                               f"{receipt['digest'][:12]}, the journal has {uses[0][1]}")
    return tally.settle(f"{len(receipts)} receipts, {len(history.requests)} requests, each there once")


def check_ends(evidence: Evidence) -> str:
    """Each job ended once after it was last queued, and none is left open."""
    tally, jobs = Tally(list(evidence.history.violations)), evidence.history.jobs
    open_jobs = [f"{job.id} is {job.state}" for job in jobs.values() if not job.end]
    if not evidence.allow_open:
        tally.wrong += open_jobs
    return tally.settle(f"{len(jobs) - len(open_jobs)} of {len(jobs)} jobs ended, each once; {len(open_jobs)} open")


def check_leases(evidence: Evidence) -> str:
    """Each lease ended before the next one of its job, and all of them at last."""
    tally = Tally(list(evidence.history.lease_violations))
    leaked = [f"the lease of event {job.lease_seq} on {job.id} has no end" for job in evidence.history.jobs.values()
              if job.lease_seq]
    if not evidence.allow_open:
        tally.wrong += leaked
    return tally.settle(f"{evidence.history.leases} leases, {len(leaked)} open")


def check_sum(evidence: Evidence) -> str:
    """Submits counted from the events close with the states that the journal's own table gives."""
    history, states, tally = evidence.history, evidence.journal.states, Tally()
    for id_ in sorted(states.keys() | history.jobs.keys()):
        folded = history.jobs[id_].state if id_ in history.jobs else "missing"
        if states.get(id_, "missing") != folded:
            tally.wrong.append(f"{id_} is {folded} by its events and {states.get(id_, 'missing')} in the table")
    accepted = [event.job for event in evidence.journal.events if event.type == "JobSubmitted"]
    counts = Counter(states.get(job or "", "missing") for job in accepted)
    aside = sum(counts[end] for end in _ENDS)
    still_open = len(accepted) - counts["succeeded"] - aside
    if still_open and not evidence.allow_open:
        tally.wrong.append(f"{still_open} of {len(accepted)} accepted files are neither trained nor set aside")
    kinds = ", ".join(f"{counts[end]} {end}" for end in _ENDS)
    return tally.settle(f"accepted {len(accepted)} = trained {counts['succeeded']} + set aside {aside} ({kinds})"
                        f" + open {still_open}")


def check_generations(evidence: Evidence) -> str:
    """Each generation verifies, has a number of its own, and came after its parent."""
    tally, names = Tally(list(evidence.broken)), {number: set(found) for number, found
                                                  in evidence.history.published.items()}
    on_disk = {generation.path.name.removeprefix("damaged-")[:len(f"g{generation.number:06d}-s{generation.step:08d}")]
               for generation in evidence.generations}
    for generation in evidence.generations:
        names.setdefault(generation.number, set()).add(f"g{generation.number:06d}-s{generation.step:08d}")
    tally.wrong += [f"generation {number} was given to {sorted(found)}" for number, found in sorted(names.items())
                    if len(found) > 1]
    gone = 0
    for name, facts in evidence.proven.items():
        if f"g{facts['generation']:06d}-s{facts['step']:08d}" != name:
            tally.wrong.append(f"{name} says that it is generation {facts['generation']}, step {facts['step']}")
        if facts["parent"] and reading.number_of(facts["parent"]) >= facts["generation"]:
            tally.wrong.append(f"{name} names {facts['parent']}, which is not before it, as its parent")
        gone += bool(facts["parent"]) and facts["parent"] not in on_disk
    return tally.settle(f"{len(evidence.proven)} generations verify, "
                        f"{sum(generation.damaged for generation in evidence.generations)} set aside, "
                        f"{gone} parents are gone")


def check_rows(evidence: Evidence) -> str:
    """Each row of each trained file entered exactly ``epochs`` times, in steps without a gap.

    Where the journal says that batches were left out or the job was cut short, exactly the others have entered.

    Of a job whose checkpoint retention has deleted, as the journal says, only the driver can prove it.
    """
    tally, jobs, records, unprovable, purged = Tally(), evidence.history.succeeded(), 0, list[str](), list[str]()
    there = {evidence.home / "checkpoints" / name: facts for name, facts in evidence.proven.items()} | evidence.removed
    for job in jobs:
        checkpoint = next((path for path, facts in there.items()
                           if facts["cursor"]["job"] == job.id and facts["cursor"]["done"]), None)
        shard = evidence.home / "cache" / job.prepared.get("shard", "missing")
        if checkpoint is None or not shard.is_dir():
            trained_in = {generation for generation, seq in job.successes.items() if seq == job.trained_seq}
            was_purged = checkpoint is None and not evidence.history.purged.isdisjoint(trained_in)
            (purged if was_purged else unprovable).append(
                f"{job.id} ({'its shard' if checkpoint else 'its checkpoint'} is gone)")
            continue
        if not reading.has_whole_ledger(checkpoint / "ledger.bin"):
            unprovable.append(f"{job.id} (it began before there were ledgers)")
            continue
        try:
            records += _check_job(job, checkpoint, there[checkpoint], shard)
        except BrokenError as error:
            tally.wrong.append(f"{job.id}: {error}")
    if jobs and not evidence.proven:
        tally.wrong.append(f"{len(jobs)} jobs are trained, and there is no checkpoint")
    if evidence.strict:
        tally.wrong += [f"{job} cannot be proven" for job in unprovable]
    unprovable += purged
    listed = f": {', '.join(unprovable[:_SHOWN])}" if unprovable else ""
    return tally.settle(f"{records} rows of {len(jobs) - len(unprovable)} jobs entered exactly as often as asked; "
                        f"{len(unprovable)} jobs not provable{listed}")


def _check_job(job: Job, checkpoint: Path, facts: dict[str, Any], shard: Path) -> int:
    if reading.prove(shard, "shard")["digest"] != job.prepared["shard_digest"]:
        raise BrokenError(f"its shard {shard.name} is not the journalled one")
    settings = job.submitted["spec"]["train"]
    rows = reading.row_digests(shard)
    steps, found = reading.read_ledger(checkpoint / "ledger.bin")
    lines: dict[bytes, int] = {}
    for digest, line in rows:
        lines.setdefault(digest, line)
    planned = -(-len(rows) // settings["batch_rows"]) * settings["epochs"]
    effects = job.effects_of.get(job.trained_seq, frozenset())
    skipped = {step for kind, step in effects if kind == "skip_batch"}
    done = min([planned, *(step for kind, step in effects if kind == "cut")])
    wanted = [step for step in range(done) if step not in skipped]
    expected = Counter(digest for digest, _ in rows)
    tally = Tally([f"a row {digest.hex()} entered {times} times that is none of the file's"
                   for digest, times in found.items() if digest not in expected])
    for digest, times in expected.items():
        most = times * settings["epochs"]
        # Where steps were left out, by what the journal says, so were their rows.
        if found[digest] > most or (found[digest] < most and len(wanted) == planned):
            tally.wrong.append(f"line {lines[digest]} entered {found[digest]} times instead of {most}")
    if sorted(set(steps)) != wanted or steps != sorted(steps):
        tally.wrong.append(f"its steps are not those that it was to do, {len(wanted)} of {planned}, in order "
                           f"({_odd_steps(steps, wanted)})")
    if len(wanted) < planned:  # else what was said of the rows says it all
        sizes = Counter(steps)
        tally.wrong += [f"step {step} had {sizes[step]} rows instead of {_rows_of_step(step, len(rows), settings)}"
                        for step in wanted if sizes[step] != _rows_of_step(step, len(rows), settings)]
    if (facts["cursor"]["job_step"], facts["cursor"]["steps_planned"]) != (done, done):
        tally.wrong.append(f"{checkpoint.name} stands at step {facts['cursor']['job_step']} of {done}")
    tally.settle("")
    return len(steps)


def _rows_of_step(step: int, rows: int, settings: dict[str, Any]) -> int:
    """How many rows a step has: the last one of each epoch what is left."""
    size = int(settings["batch_rows"])
    per_epoch = -(-rows // size)
    return rows - (per_epoch - 1) * size if step % per_epoch == per_epoch - 1 else size


def _odd_steps(steps: Sequence[int], wanted: Sequence[int]) -> str:
    odd = sorted(set(steps) ^ set(wanted))
    return f"missing or too many: {odd[:_SHOWN]}" if odd else "out of order"


def check_enclosed(evidence: Evidence) -> str:
    """What shards were made with is there and whole; each replayed row is the one that the journalled pack has."""
    tally, there, gone, rows = Tally(), 0, 0, 0
    dropped = {digest for event in evidence.journal.events if event.type == "DataDropped"
               for digest in event.fields["digests"]}
    trained = {job.id for job in evidence.history.succeeded()}
    for job in evidence.history.jobs.values():
        named = job.prepared.get("enclosed", ())
        try:
            contents = {each["role"]: enclosed.content_of(evidence.home, each) for each in named}
            lost = [each["digest"] for each in named if contents[each["role"]] is None]
            there, gone = there + len(named) - len(lost), gone + len(lost)
            if missing := [digest for digest in lost if digest not in dropped]:
                raise BrokenError(f"{missing[0]}, which its shard is made with, is not in data/")
            shard = evidence.home / "cache" / job.prepared.get("shard", "missing")
            if job.id in trained and not lost and shard.is_dir():
                rows += enclosed.check_replayed(shard, contents.get("replay") or b"", job.prepared,
                                                job.submitted["spec"]["data"])
        except BrokenError as error:
            tally.wrong.append(f"{job.id}: {error}")
    return tally.settle(f"{there} contents that shards are made with verify, {gone} were let go of; "
                        f"{rows} replayed rows are those of their packs")


def check_lineage(evidence: Evidence) -> str:
    """The weights come, job by job, of exactly the trained files, in the order of the journal."""
    wanted = [job.id for job in evidence.history.succeeded()]
    found: list[str] = []
    name = next(iter(evidence.proven), "")
    while name in evidence.proven and evidence.proven[name]["cursor"]["job"]:
        facts = evidence.proven[name]
        if facts["cursor"]["done"]:
            found.insert(0, facts["cursor"]["job"])
        elif not evidence.allow_open or found:
            raise BrokenError(f"{name} holds {facts['cursor']['job']} half trained")
        if reading.number_of(facts["base"]) >= facts["generation"]:
            raise BrokenError(f"{name} began from {facts['base']}, which is not before it")
        name = facts["base"]
    complete = name in evidence.proven
    # A success that is published and not reported yet may be ahead of the journal.
    ahead = [job for job in found if job not in wanted] if evidence.allow_open else []
    known = [job for job in found if job not in ahead]
    if known != (wanted if complete else wanted[len(wanted) - len(known):]):
        raise BrokenError(f"the weights hold {known[-_SHOWN:]} ({len(known)} jobs), the journal says "
                          f"{wanted[-_SHOWN:]} ({len(wanted)} jobs)")
    return f"the weights hold {len(found)} jobs in journalled order" + ("" if complete else "; what was before is gone")


def check_temporaries(evidence: Evidence) -> str:
    """Nothing half written is left."""
    left = [str(path.relative_to(evidence.home)) for path in evidence.home.rglob(".tmp-*")]
    return Tally([f"{name} was left" for name in sorted(left)]).settle("no temporary file is left")


def check_fingerprint(evidence: Evidence) -> str:
    """Nothing has changed what computes: only then are the bits of the weights promised."""
    changes = evidence.history.fingerprint_changes
    return Tally([f"{changes} changes of what computes are in the journal"] if changes else []).settle(
        "nothing has changed what computes")


def check_driver(evidence: Evidence) -> str:
    """The newest generation is, bit for bit, the one of an undisturbed run."""
    assert evidence.driver is not None
    newest = next((item for item in evidence.generations if not item.damaged), None)
    other = next((item for item in reading.list_generations(evidence.driver / "checkpoints") if not item.damaged), None)
    if newest is None or other is None:
        raise BrokenError(f"there is no generation {'here' if newest is None else 'of the driver'} to compare")
    own, others = _computed(newest.path), _computed(other.path)
    names = sorted(own.keys() | others.keys())
    differ = [f"{name} differs" for name in names
              if name not in own or name not in others or not _same(own[name], others[name])]
    changes = evidence.history.fingerprint_changes
    if changes and differ:
        return (f"{', '.join(differ)}; bit identity is not claimed: the journal holds {changes} changes of what "
                f"computes")
    return Tally(differ).settle(f"{len(names)} files of {newest.path.name} are those of the undisturbed "
                                f"{other.path.name}: {', '.join(names)}")


def _computed(generation: Path) -> dict[str, Path]:
    """The files of a generation that are computed, and the weights under its adapter, by what they are."""
    found = {path.relative_to(generation).as_posix(): path for path in generation.rglob("*")
             if path.suffix == ".safetensors" or path.name in ("state.json", "ledger.bin")}
    weights = reading.prove(generation, "checkpoint")["facts"].get("adapter_of", "")
    if weights not in ("", generation.name):
        under = generation.parent / weights
        found |= {f"{path.name} under the adapter": path for path in under.glob("model*.safetensors")}
    return found


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and reading.digest_of(one) == reading.digest_of(other)


def all_checks(evidence: Evidence) -> Iterator[tuple[str, Callable[[Evidence], str]]]:
    """Name and check, in the order in which they are said."""
    yield from (("chain", check_chain), ("receipts", check_receipts), ("ends", check_ends), ("leases", check_leases),
                ("sum", check_sum), ("generations", check_generations), ("lineage", check_lineage),
                ("rows", check_rows), ("enclosed", check_enclosed), ("temporaries", check_temporaries))
    if evidence.strict:
        yield "fingerprint", check_fingerprint
    if evidence.driver is not None:
        yield "driver", check_driver
