"""Feeding: whether a file is to be made now, of what, and how hard. Pure: what is known in, a task or words out.

Rules:

* A file is made when fewer than ``queue_files`` train jobs wait, whoever has submitted them; one at a time.
* After one that failed the next one waits, twice as long each time, an hour at most.
* Of the rows of the newest ``window_jobs`` files at most ``max_share`` are generated, as long as people have submitted
  any of them: it is what they gave that is to be kept from drowning. Where they gave nothing there is nothing to keep.
* A generator whose newest file was rejected, set aside, or is held for a person is passed over while that file is among
  them: more of the same would end the same.
* The next generator is the one that lacks most of its part, by the rows that were made in the window. What comes of the
  model itself (self-play) is at most ``max_selfplay_share`` of them, and is never made without a champion. It takes
  long: while no file waits, and the training with it, another one goes first.
* A generator of which came no file (self-play with too few right answers) is passed over, too: for the cooldown, twice
  as long each time, an hour at most.
* The level is the one that the evaluations have moved it to; of self-play that of the puzzles' own generator.
* The seed follows from the configured one and from how many files were ever asked for: none comes twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from blake3 import blake3

from trainq.config import DatagenSettings
from trainq.generating import selfplay
from trainq.jobs import JobKind, JobState, Origin
from trainq.messages import GenerateTask, JobView

# In a generate job's result: what it made, and how many rows.
GENERATOR_FACT, ROWS_FACT = "generator", "rows"
_MAX_PAUSE_SECONDS = 3600.0
_CAME_TO_NOTHING = frozenset({JobState.REJECTED, JobState.QUARANTINED, JobState.HELD})
_SEED_BYTES = 7


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided from.

    ``counts`` are the broker's {kind: {state: how many}}; ``files`` and ``made`` the newest train and generate jobs,
    newest first; ``levels`` those of the evaluations by generator; ``now`` wall seconds since 1970.
    """

    counts: Mapping[str, Mapping[str, int]]
    files: Sequence[JobView]
    made: Sequence[JobView]
    levels: Mapping[str, int]
    has_champion: bool
    now: float


def decide(known: Known, settings: DatagenSettings) -> GenerateTask | str:
    """What is to be made now; or why nothing is."""
    if reason := why_not(known.counts, settings) or _why_later(known, settings) or _why_enough(known, settings):
        return reason
    passed_over = _passed_over(known, settings) | _without_file(known, settings)
    name = _next_generator(known, settings, passed_over, may_take_long=_waiting(known.counts) > 0)
    if not name:
        return next(iter(passed_over.values()),
                    "no generator is configured that has anything to make ([datagen.generators])")
    chosen = settings.generators[name]
    generator = chosen.use or name
    at_level = selfplay.source_of(chosen.options) if generator == selfplay.NAME else name
    return GenerateTask(generator=generator, name=name, count=settings.rows,
                        level=known.levels.get(at_level, chosen.level),
                        seed=seed_of(settings.seed, sum(known.counts.get(JobKind.GENERATE.value, {}).values())),
                        options=chosen.options)


def why_not(counts: Mapping[str, Mapping[str, int]], settings: DatagenSettings) -> str:
    """Why nothing is made, by the counts alone; empty if they do not say so."""
    waiting = _waiting(counts)
    if waiting >= settings.queue_files:
        return f"{waiting} files wait"
    asked = counts.get(JobKind.GENERATE.value, {})
    if any(asked.get(state.value, 0) for state in (JobState.QUEUED, JobState.RUNNING)):
        return "a file is being made"
    return ""


def _waiting(counts: Mapping[str, Mapping[str, int]]) -> int:
    return counts.get(JobKind.TRAIN.value, {}).get(JobState.QUEUED.value, 0)


def seed_of(first: int, number: int) -> int:
    """The seed of the file of this ``number``: 56 bits, so that no two files of months have one."""
    return int.from_bytes(blake3(f"datagen {first} {number}".encode()).digest(length=_SEED_BYTES), "big")


def _why_later(known: Known, settings: DatagenSettings) -> str:
    ended = [job for job in known.made if job.ended_at is not None]
    failed = 0
    while failed < len(ended) and ended[failed].state is not JobState.SUCCEEDED:
        failed += 1
    if not ended or ended[0].ended_at is None:
        return ""
    left = _left(settings.cooldown_seconds if not failed else _longer(failed, settings), ended[0].ended_at, known.now)
    if left <= 0:
        return ""
    return f"{ended[0].id} failed: {ended[0].reason}; the next one in {left:.0f} s" if failed else (
        f"the next file comes in {left:.0f} s")


def _longer(times: int, settings: DatagenSettings) -> float:
    # At least a second: also with no cooldown what comes to nothing at once is not tried for ever at once.
    return min(_MAX_PAUSE_SECONDS, max(1.0, settings.cooldown_seconds) * 2.0**times)


def _left(pause: float, ended_at: float, now: float) -> float:
    # A clock that was set back is not waited for.
    return min(pause, ended_at + pause - now)


def _why_enough(known: Known, settings: DatagenSettings) -> str:
    rows = {"generated": 0, "people": 0}
    for job in known.files:
        rows[job.origin] = rows.get(job.origin, 0) + job.rows
    everything = sum(rows.values())
    if not rows["people"] or rows["generated"] + settings.rows <= settings.max_share * (everything + settings.rows):
        return ""
    return (f"{rows['generated']} of the last {everything} rows were generated, and at most "
            f"{settings.max_share:.0%} may be while people submit files")


def prefix_of(name: str) -> str:
    """With what the names of a generator's files begin, before the level."""
    return f"{name}-l"


def _passed_over(known: Known, settings: DatagenSettings) -> dict[str, str]:
    """{name: why} of the generators whose newest file came to nothing."""
    reasons: dict[str, str] = {}
    seen: set[str] = set()
    for job in known.files:
        name = next((name for name in settings.generators if job.name.startswith(prefix_of(name))), "")
        if job.origin != Origin.GENERATED or not name or name in seen:
            continue
        seen.add(name)
        if job.state in _CAME_TO_NOTHING:
            reasons[name] = f"{job.id}, the last file of {name}, is {job.state.value}: {job.reason}"
    return reasons


def _without_file(known: Known, settings: DatagenSettings) -> dict[str, str]:
    """{name: why} of the generators of whose newest tasks came no file, as long as each of them is to wait."""
    vain: dict[str, list[JobView]] = {name: [] for name in settings.generators}
    done: set[str] = set()
    for job in known.made:
        facts = (job.result or {}).get("facts", {})
        name = facts.get(GENERATOR_FACT)
        if name in vain and name not in done and job.ended_at is not None:
            if facts.get(ROWS_FACT, 0):
                done.add(name)
            else:
                vain[name].append(job)
    reasons: dict[str, str] = {}
    for name, jobs in vain.items():
        left = _left(_longer(len(jobs), settings), jobs[0].ended_at or 0.0, known.now) if jobs else 0.0
        if left > 0:
            reasons[name] = f"of {jobs[0].id} came no file of {name}; the next one in {left:.0f} s at the earliest"
    return reasons


def _next_generator(known: Known, settings: DatagenSettings, passed_over: Mapping[str, str], *,
                    may_take_long: bool) -> str:
    """The one that lacks most of its part; by name where two lack as much."""
    made = dict.fromkeys(settings.generators, 0)
    for job in known.made:
        facts = (job.result or {}).get("facts", {})
        name, rows = facts.get(GENERATOR_FACT), facts.get(ROWS_FACT, 0)
        if name in made:
            made[name] += int(rows)
    everything = sum(made.values())
    wanted = {name: each.weight for name, each in settings.generators.items()
              if each.weight > 0 and name not in passed_over and _may_come(name, known, made, settings)}
    if not may_take_long:
        wanted = {name: weight for name, weight in wanted.items() if not _is_selfplay(name, settings)} or wanted
    if not wanted:
        return ""
    weights = sum(wanted.values())
    lacks = {name: weight / weights * (everything + settings.rows) - made[name] for name, weight in wanted.items()}
    return max(sorted(lacks), key=lambda name: lacks[name])


def _is_selfplay(name: str, settings: DatagenSettings) -> bool:
    return (settings.generators[name].use or name) == selfplay.NAME


def _may_come(name: str, known: Known, made: Mapping[str, int], settings: DatagenSettings) -> bool:
    if not _is_selfplay(name, settings):
        return True
    own = sum(rows for other, rows in made.items() if _is_selfplay(other, settings))
    return known.has_champion and own + settings.rows <= settings.max_selfplay_share * (
        sum(made.values()) + settings.rows)
