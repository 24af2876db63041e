"""Feeding: whether a file is to be made now, of what, and how hard. Pure: what is known in, a task or words out.

Rules:

* A file is made when fewer than ``queue_files`` train jobs stand in the line, whoever has submitted them; one at a
  time. What waits for another job, for a person or for its next attempt is nothing to train now, and does not count;
  but for what stands behind the part of the line that the broker shows, of which only the number is known.
* A generator that fails, of which comes no file (self-play with too few right answers), or that makes a file that it
  has made before, rests, twice as long each time, an hour at most; the others go on meanwhile.
* Of the rows of the newest ``window_jobs`` files at most ``max_share`` are generated, as long as people have submitted
  any of them in the last ``window_hours``: it is what they gave that is to be kept from drowning. Where they gave
  nothing there is nothing to keep: what is set aside, cancelled, or held for a person is not trained.
* A generator whose newest file was rejected, set aside, or is held for a person is passed over for an hour, twice as
  long with each one more in a row, a day at most: more of the same would end the same, and fill the list of what waits
  for a person. Who releases or cancels the newest of them ends that.
* The next generator is the one that lacks most of its part, which is its weight and what its score leaves to be learned
  (:mod:`trainq.curriculum`). What comes of the model itself (self-play) is at most ``max_selfplay_share`` of all that
  is generated, and is never made without a champion. It takes long: while no file waits, and the training with it,
  another one goes first.
* The level is the one that the evaluations have moved it to; of self-play that of the puzzles' own generator.
* The seed follows from the configured one and from how many files were ever asked for: none comes twice.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import msgspec
from blake3 import blake3

from trainq import curriculum
from trainq.config import DatagenSettings
from trainq.generating import selfplay
from trainq.jobs import JobKind, JobState, Origin
from trainq.messages import WAITING_SHOWN, GenerateTask, JobView

# In a generate job's result: what it made, how many rows, and the file.
GENERATOR_FACT, ROWS_FACT, FILE_FACT = "generator", "rows", "file"
_MAX_PAUSE_SECONDS = 3600.0
_MAX_PASSED_OVER_SECONDS = 86_400.0
# What is trained, or is going to be.
_TRAINED = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED})
_CAME_TO_NOTHING = frozenset({JobState.REJECTED, JobState.QUARANTINED, JobState.HELD})
_SEED_BYTES = 7
# However well one is known, it keeps so much of what is made.
_LEAST_SHARE = 0.1
_FILE_NAME = re.compile(r"(.+)-l[0-9]+-[0-9a-f]+\.jsonl")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided from.

    ``counts`` are the broker's {kind: {state: how many}}, ``line`` the first train jobs that wait; ``files`` and
    ``made`` the newest train and generate jobs, newest first (``files`` also beyond the window); ``levels`` those of
    the evaluations by generator, and ``scores`` what was last scored at that level (0 to 1); ``now`` wall seconds since
    1970.
    """

    counts: Mapping[str, Mapping[str, int]]
    line: Sequence[JobView] = ()
    files: Sequence[JobView]
    made: Sequence[JobView]
    levels: Mapping[str, int]
    scores: Mapping[str, float] = {}
    has_champion: bool
    now: float


def decide(known: Known, settings: DatagenSettings) -> GenerateTask | str:
    """What is to be made now; or why nothing is."""
    if reason := (why_not(known.counts, known.line, known.now, settings) or _why_later(known, settings)
                  or _why_enough(known, settings)):
        return reason
    passed_over = _resting(known, settings) | _passed_over(known, settings)
    name = _next_generator(known, settings, passed_over, may_take_long=_in_line(known.line, known.now) > 0)
    if not name:
        return "; ".join(passed_over.values()) or (
            "no generator is configured that has anything to make ([datagen.generators])")
    chosen = settings.generators[name]
    generator = chosen.use or name
    return GenerateTask(generator=generator, name=name, count=settings.rows,
                        level=selfplay.level_of(name, settings.generators, known.levels),
                        seed=seed_of(settings.seed, sum(known.counts.get(JobKind.GENERATE.value, {}).values())),
                        options=chosen.options)


def why_not(counts: Mapping[str, Mapping[str, int]], line: Sequence[JobView], now: float,
            settings: DatagenSettings) -> str:
    """Why nothing is made, as far as an overview says it; empty if it does not. See :class:`Known`."""
    waiting = _in_line(line, now)
    if len(line) >= WAITING_SHOWN:
        waiting += max(0, counts.get(JobKind.TRAIN.value, {}).get(JobState.QUEUED.value, 0) - len(line))
    if waiting >= settings.queue_files:
        return "1 file waits" if waiting == 1 else f"{waiting} files wait"
    asked = counts.get(JobKind.GENERATE.value, {})
    if any(asked.get(state.value, 0) for state in (JobState.QUEUED, JobState.RUNNING)):
        return "a file is being made"
    return ""


def _in_line(line: Sequence[JobView], now: float) -> int:
    return sum(job.retry_at <= now for job in line)


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
    rows = {Origin.GENERATED.value: 0, Origin.PEOPLE.value: 0}
    for job in known.files[:settings.window_jobs]:
        if job.state in _TRAINED and job.submitted_at > known.now - settings.window_hours * 3600:
            # Of one that is not prepared yet nobody knows how many it has.
            unknown = settings.rows if job.origin == Origin.GENERATED and job.state is JobState.QUEUED else 0
            rows[job.origin] += job.rows or unknown
    everything = sum(rows.values())
    if not rows["people"] or rows["generated"] + settings.rows <= settings.max_share * (everything + settings.rows):
        return ""
    return (f"{rows['generated']} of the last {everything} rows were generated, and at most "
            f"{settings.max_share:.0%} may be while people submit files")


def file_name(task: GenerateTask) -> str:
    """What a generated file is called."""
    return f"{task.name}-l{task.level:02d}-{task.seed:x}.jsonl"


def _passed_over(known: Known, settings: DatagenSettings) -> dict[str, str]:
    """{name: why} of the generators whose newest file came to nothing."""
    reasons: dict[str, str] = {}
    for name in settings.generators:
        files = [job for job in known.files if job.origin == Origin.GENERATED and _generator_of(job) == name]
        vain = list(itertools.takewhile(lambda job: job.state in _CAME_TO_NOTHING, files))
        pause = min(_MAX_PASSED_OVER_SECONDS, _MAX_PAUSE_SECONDS * 2.0**(len(vain) - 1))
        if vain and _is_soon_after(vain[0].ended_at or vain[0].submitted_at, pause, known.now):
            in_a_row = f", and {len(vain)} in a row came to nothing" if len(vain) > 1 else ""
            reasons[name] = (f"{vain[0].id}, the last file of {name}, is {vain[0].state.value}: {vain[0].reason}"
                             f"{in_a_row}; {name} is tried again {pause / 3600:g} h after it (or now: trainq generate "
                             f"{name})")
    return reasons


def _generator_of(file: JobView) -> str:
    """As whose a file is called, see :func:`file_name`; empty if as nobody's."""
    found = _FILE_NAME.fullmatch(file.name)
    return found[1] if found else ""


def _next_generator(known: Known, settings: DatagenSettings, passed_over: Mapping[str, str], *,
                    may_take_long: bool) -> str:
    """The one that lacks most of its part; empty if there is none."""
    made = dict.fromkeys(settings.generators, 0)
    past: list[str] = []
    for job in known.made[::-1]:
        facts = (job.result or {}).get("facts", {})
        name, rows = facts.get(GENERATOR_FACT), facts.get(ROWS_FACT, 0)
        if name in made and rows:
            made[name] += int(rows)
            past.append(name)
    names = [name for name, each in settings.generators.items()
             if each.weight > 0 and name not in passed_over and _may_come(name, known, made, settings)]
    if not may_take_long:
        names = [name for name in names if not _is_selfplay(name, settings)] or names
    if not names:
        return ""
    shares = curriculum.shares({name: known.scores.get(name) for name in names}, _LEAST_SHARE)
    weighed = {name: share * settings.generators[name].weight for name, share in shares.items()}
    return curriculum.next_generator({name: each / sum(weighed.values()) for name, each in weighed.items()}, past)


def _is_selfplay(name: str, settings: DatagenSettings) -> bool:
    return (settings.generators[name].use or name) == selfplay.NAME


def _may_come(name: str, known: Known, made: Mapping[str, int], settings: DatagenSettings) -> bool:
    if not _is_selfplay(name, settings):
        return True
    own = sum(rows for other, rows in made.items() if _is_selfplay(other, settings))
    return known.has_champion and own + settings.rows <= settings.max_selfplay_share * (
        sum(made.values()) + settings.rows)
