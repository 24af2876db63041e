"""Feeding: whether a file is to be made now, of what, and how hard. Pure: what is known in, a task or words out.

Rules:

* A file is made when fewer than ``queue_files`` train jobs wait, whoever has submitted them; one at a time.
* A generator that fails, of which comes no file (self-play with too few right answers), or that makes a file that it
  has made before, rests, twice as long each time, an hour at most; the others go on meanwhile.
* Of the rows of the newest ``window_jobs`` files at most ``max_share`` are generated, as long as people have submitted
  any of them: it is what they gave that is to be kept from drowning. Where they gave nothing there is nothing to keep.
* A generator whose newest file was rejected, set aside, or is held for a person is passed over while that file is among
  them: more of the same would end the same.
* The next generator is the one that lacks most of its part, by the rows that were made in the window. What comes of the
  model itself (self-play) is at most ``max_selfplay_share`` of them, and is never made without a champion. It takes
  long: while no file waits, and the training with it, another one goes first.
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

# In a generate job's result: what it made, how many rows, and the file.
GENERATOR_FACT, ROWS_FACT, FILE_FACT = "generator", "rows", "file"
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
    passed_over = _resting(known, settings) | _passed_over(known, settings)
    name = _next_generator(known, settings, passed_over, may_take_long=_waiting(known.counts) > 0)
    if not name:
        return "; ".join(passed_over.values()) or (
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
        return "1 file waits" if waiting == 1 else f"{waiting} files wait"
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
    ended = next((job.ended_at for job in known.made if job.ended_at is not None), None)
    if ended is None or not _is_soon_after(ended, settings.cooldown_seconds, known.now):
        return ""
    return f"the next file comes {settings.cooldown_seconds:g} s after the last one"


def _is_soon_after(ended_at: float, pause: float, now: float) -> bool:
    """Whether the pause after that moment lasts; a clock that was set back is not waited for."""
    return 0 < ended_at + pause - now <= pause


def _resting(known: Known, settings: DatagenSettings) -> dict[str, str]:
    """{name: why} of the generators that are not tried again yet."""
    reasons: dict[str, str] = {}
    for name in settings.generators:
        ended = [job for job in known.made if job.ended_at is not None and _is_of(job, name)]
        failed = 0
        while failed < len(ended) and _why_vain(ended, failed):
            failed += 1
        # At least a second: also with no cooldown what fails at once is not tried for ever at once.
        pause = min(_MAX_PAUSE_SECONDS, max(1.0, settings.cooldown_seconds) * 2.0**failed)
        if failed and _is_soon_after(ended[0].ended_at or 0.0, pause, known.now):
            reasons[name] = (f"{ended[0].id} came to nothing: {_why_vain(ended, 0)}; {name} is tried again "
                             f"{pause:.0f} s after it")
    return reasons


def _is_of(made: JobView, name: str) -> bool:
    # A task's words (trainq.messages.GenerateTask) are all that is left of one that failed.
    return (made.result or {}).get("facts", {}).get(GENERATOR_FACT) == name or f" rows of {name}, level " in made.name


def _why_vain(ended: Sequence[JobView], at: int) -> str:
    """Why nothing new came of that task; empty if something did. ``ended`` are those of its generator."""
    task = ended[at]
    if task.state is not JobState.SUCCEEDED:
        return task.reason or task.state.value
    if (task.result or {}).get("facts", {}).get(ROWS_FACT) == 0:
        return str((task.result or {}).get("summary", "there was no file"))
    digest = _digest_of(task)
    is_again = bool(digest) and any(_digest_of(job) == digest for job in ended[at + 1:])
    return "it made a file that was there before" if is_again else ""


def _digest_of(made: JobView) -> str:
    return str((made.result or {}).get("facts", {}).get(FILE_FACT, {}).get("digest", ""))


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
