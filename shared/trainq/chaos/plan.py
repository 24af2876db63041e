"""What breaks, what is submitted and what upkeep is asked for, and when: three endless sequences of a seed. Pure.

The times are pauses: how long after the step before. What really happens then depends on the machine (a process that
is to be killed may be dead already), so that a seed repeats the plan and not the run.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import chain
from typing import NamedTuple, TypeVar

import orjson

from trainq.chaos.processes import EVALUATION, FORK_SERVER, GENERATION, SERVICES, SUPERVISORD, TRAINING

# The heavier, the oftener. Each end of the fork server costs the seconds of importing torch, and the trainer's and
# supervisord's end is the fork server's too: were they as often as the rest, nothing would ever be trained.
WEIGHTS = {"broker": 5.0, "watcher": 3.0, "preparer": 3.0, "status": 1.5, "snapshot": 2.0, "retention": 1.0,
           "consolidator": 1.0, "evaluator": 1.0, "datagen": 1.0, "web": 1.0, "trainer": 1.5, TRAINING: 5.0,
           EVALUATION: 1.5, GENERATION: 1.0, FORK_SERVER: 1.0, SUPERVISORD: 0.7}
# Most faults come in quick succession; the long pauses let work begin that the next fault can spoil.
_QUICK_SECONDS = 0.4
_CALM_SECONDS = (3.0, 8.0)
_CALM_SHARE = 0.13
# Above the lease's seconds, so that a frozen process loses its lease, its successor works, and it thaws.
_LONG_FREEZE_SECONDS = (5.5, 8.0)
MIN_ROWS, MAX_ROWS = 8, 60
_SUITE_ROWS = 16
MAX_HITS = 24


Name = TypeVar("Name", bound=str)


class FaultKind(StrEnum):
    """What can be done to processes."""

    KILL = "kill"
    PAIR = "pair"
    FREEZE = "freeze"
    RESTART = "restart"
    CRASH_POINT = "crash point"


_KINDS = {FaultKind.KILL: 5.0, FaultKind.PAIR: 2.0, FaultKind.FREEZE: 1.5, FaultKind.RESTART: 0.7,
          FaultKind.CRASH_POINT: 6.0}


class Fault(NamedTuple):
    """One thing to do, ``pause_seconds`` after the one before.

    ``seconds``: how long a freeze lasts; how long supervisord stays dead. ``point`` is a crash point's name, at whose
    ``hits``-th time the kill comes.
    """

    kind: FaultKind
    pause_seconds: float
    processes: tuple[str, ...]
    seconds: float = 0.0
    point: str = ""
    hits: int = 1


class LoadKind(StrEnum):
    """What a user can do."""

    SUBMIT = "submit"
    DROP = "drop"
    SAME_CONTENT = "same content"
    SAME_REQUEST = "same request"
    BAD_ROWS = "bad rows"
    CANCEL = "cancel"


_LOADS = {LoadKind.SUBMIT: 5.0, LoadKind.DROP: 4.0, LoadKind.SAME_CONTENT: 1.5, LoadKind.SAME_REQUEST: 1.5,
          LoadKind.BAD_ROWS: 0.8, LoadKind.CANCEL: 1.2}


class Load(NamedTuple):
    """One thing that a user does, ``pause_seconds`` after the one before.

    ``which``, from 0 to below 1, chooses among what was submitted so far, where the kind needs that; of the newest few
    for a cancel, which is to meet jobs that still wait or run.
    """

    kind: LoadKind
    pause_seconds: float
    name: str
    rows: int
    which: float


class OrderKind(StrEnum):
    """What can be ordered of the trainer."""

    PAUSE = "pause"
    YIELD = "yield"
    DRAIN = "drain"
    STOP = "stop"
    PAUSE_FILE = "pause file"
    STOP_FILE = "stop file"
    CHECKPOINT = "checkpoint"
    SKIP_KEEP = "skip --keep"
    SKIP_ROLLBACK = "skip --rollback"
    RESUME = "resume"


# Each rest is ended by the next resume, and comes a moment before it: most of the time something is to be trained.
_RESTS = (OrderKind.PAUSE, OrderKind.YIELD, OrderKind.DRAIN, OrderKind.STOP, OrderKind.PAUSE_FILE, OrderKind.STOP_FILE)
_OTHERS = (OrderKind.CHECKPOINT, OrderKind.SKIP_KEEP, OrderKind.SKIP_ROLLBACK)


class Order(NamedTuple):
    """One order, ``pause_seconds`` after the one before; ``seconds``: of a yield."""

    kind: OrderKind
    pause_seconds: float
    seconds: float = 0.0


class UpkeepKind(StrEnum):
    """What can be asked for that keeps copies of the model, changes which state it goes on from, scores or feeds it."""

    SNAPSHOT = "snapshot"
    VERIFY = "verify"
    RETENTION = "retention"
    BACKUP = "backup"
    RESTORE = "restore"
    CONSOLIDATION = "consolidation"
    GENERATE = "generate"
    EVALUATE = "evaluate"


_UPKEEP = {UpkeepKind.SNAPSHOT: 3.0, UpkeepKind.VERIFY: 1.0, UpkeepKind.RETENTION: 2.0, UpkeepKind.BACKUP: 2.0,
           UpkeepKind.RESTORE: 1.0, UpkeepKind.CONSOLIDATION: 1.0, UpkeepKind.GENERATE: 2.0, UpkeepKind.EVALUATE: 1.0}
# Of so many seeds the model line trains an adapter, which a consolidation merges.
_LORA_SHARE = 0.4


class Upkeep(NamedTuple):
    """One thing to ask for, ``pause_seconds`` after the one before.

    ``which``, from 0 to below 1, chooses among the snapshots for a restore, how many backups stay, whether a
    consolidation waits for the files, and the seed of what is generated.
    """

    kind: UpkeepKind
    pause_seconds: float
    which: float


def faults(seed: int, points: Sequence[tuple[str, str]]) -> Iterator[Fault]:
    """The faults of a seed, for ever. ``points`` are the pairs of process and crash point that there are.

    The first faults, one for each process and each other kind, meet every kind, and every process by a plain kill, and
    no crash point comes again before all have come: a short run is no lucky one.
    """
    draw = random.Random(f"faults {seed}")
    deck = _decks(draw, points)
    first = [(FaultKind.KILL, name) for name in WEIGHTS]
    first += [(kind, "") for kind in FaultKind if kind is not FaultKind.KILL]
    draw.shuffle(first)
    for kind, name in first:
        yield _fault(draw, kind, name, deck)
    while True:
        yield _fault(draw, _pick(draw, _KINDS), "", deck)


def _decks(draw: random.Random, points: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    while True:
        yield from draw.sample(points, len(points))


def _fault(draw: random.Random, kind: FaultKind, name: str, deck: Iterator[tuple[str, str]]) -> Fault:
    pause = draw.uniform(*_CALM_SECONDS) if draw.random() < _CALM_SHARE else draw.expovariate(1 / _QUICK_SECONDS)
    match kind:
        case FaultKind.CRASH_POINT:
            process, point = next(deck)
            return Fault(kind, pause, (process,), point=point, hits=_hits(draw, point))
        case FaultKind.PAIR:
            one = _pick(draw, WEIGHTS)
            other = _pick(draw, {key: weight for key, weight in WEIGHTS.items() if key != one})
            return Fault(kind, pause, (one, other), seconds=draw.uniform(0.0, 2.0))
        case FaultKind.FREEZE:
            long = draw.random() < 1 / 6
            return Fault(kind, pause, (name or _pick(draw, WEIGHTS),),
                         seconds=draw.uniform(*_LONG_FREEZE_SECONDS) if long else draw.uniform(0.2, 3.0))
        case FaultKind.RESTART:
            return Fault(kind, pause, (_pick(draw, {key: WEIGHTS[key] for key in SERVICES}),))
        case _:
            return Fault(FaultKind.KILL, pause, (name or _pick(draw, WEIGHTS),), seconds=draw.uniform(0.0, 2.0))


def _hits(draw: random.Random, point: str) -> int:
    """One publication of a checkpoint goes through some twenty durable operations, and each of them is to be met."""
    return min(MAX_HITS, 1 + int(draw.expovariate(1 / 5))) if point.startswith("files.") else draw.randint(1, 3)


def loads(seed: int) -> Iterator[Load]:
    """What a user does, for ever: about one thing in 2.5 s, so that training can catch up.

    The first six are one of each kind, a submit before all.
    """
    draw = random.Random(f"loads {seed}")
    # One must be there before anything can be done to it again.
    first = [kind for kind in LoadKind if kind is not LoadKind.SUBMIT]
    draw.shuffle(first)
    for number, kind in enumerate(chain([LoadKind.SUBMIT], first, _picks(draw, _LOADS)), start=1):
        yield Load(kind, draw.uniform(0.0, 5.0) if number > 1 else 0.0, f"{seed}-{number}.jsonl",
                   draw.randint(MIN_ROWS, MAX_ROWS), draw.random())


def orders(seed: int) -> Iterator[Order]:
    """What is ordered, for ever: a few rests and other orders in quick succession, a resume, and some time to work.

    The first rounds meet each kind.
    """
    draw = random.Random(f"orders {seed}")
    kinds = [*_RESTS, *_OTHERS]
    draw.shuffle(kinds)
    while True:
        if not kinds:
            kinds = draw.choices([*_RESTS, *_OTHERS], k=draw.randint(3, 9))
        some, kinds = kinds[:3], kinds[3:]
        for number, kind in enumerate(some[:draw.randint(1, 3)]):
            yield Order(kind, draw.uniform(1.0, 6.0) if number == 0 else draw.expovariate(1.0), draw.uniform(0.5, 3.0))
        yield Order(OrderKind.RESUME, draw.expovariate(1 / 0.7))


def trains_an_adapter(seed: int) -> bool:
    """Whether the home of this seed has ``[lora]``."""
    return random.Random(f"lora {seed}").random() < _LORA_SHARE


def upkeep(seed: int) -> tuple[list[Upkeep], Iterator[Upkeep]]:
    """What is asked for, more than one thing in 2 s: a first round, with each kind once; and after it, for ever.

    The round begins with a snapshot, because of nothing nothing can be restored; and ends with the restore, after which
    the adapter is merged, if there is one: a restore throws away what was merged before it.
    """
    draw = random.Random(f"upkeep {seed}")
    last = [UpkeepKind.RESTORE, *([UpkeepKind.CONSOLIDATION] if trains_an_adapter(seed) else [])]
    weights = {kind: weight for kind, weight in _UPKEEP.items()
               if kind is not UpkeepKind.CONSOLIDATION or kind in last}
    between = [kind for kind in weights if kind not in (UpkeepKind.SNAPSHOT, *last)]
    draw.shuffle(between)

    def steps(kinds: Iterable[UpkeepKind]) -> Iterator[Upkeep]:
        return (Upkeep(kind, draw.uniform(0.5, 3.0), draw.random()) for kind in kinds)

    return list(steps([UpkeepKind.SNAPSHOT, *between, *last])), steps(_picks(draw, weights))


def content(seed: int, load: Load) -> bytes:
    """The file of a load: rows that no other load of this seed has; for ``BAD_ROWS`` too many are no rows at all."""
    draw = random.Random(f"content {seed} {load.name}")
    lines = []
    for number in range(load.rows):
        a, b = draw.randint(0, 999), draw.randint(0, 999)
        lines.append(orjson.dumps({"prompt": f"{load.name} {number}: {a} and {b}?", "completion": f"{a + b}."}))
        if load.kind is LoadKind.BAD_ROWS and number % 3 == 0:
            lines[-1] = b"no row " + lines[-1]
    return b"\n".join(lines) + b"\n"


def suite(seed: int) -> list[dict[str, str]]:
    """The rows that checkpoints are scored on, which no load has."""
    draw = random.Random(f"suite {seed}")
    return [{"prompt": f"suite {number}: {draw.randint(0, 999)}?", "completion": f"{number}."}
            for number in range(_SUITE_ROWS)]


def _picks(draw: random.Random, weights: dict[Name, float]) -> Iterator[Name]:
    while True:
        yield _pick(draw, weights)


def _pick(draw: random.Random, weights: dict[Name, float]) -> Name:
    return draw.choices(list(weights), list(weights.values()))[0]
