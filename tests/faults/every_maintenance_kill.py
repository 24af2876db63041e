"""Kill at each (point, n-th time) of each task of maintenance: ``every_maintenance_kill.py FOLDER [ACT ...]``.

Each life is a fork: one undisturbed counts how often each point is reached; then one is killed at each of them, and the
next one must end the task, with nothing half made left and nothing lost. The worker is killed alone while the broker
lives on; and at the points of the journal, and at some of the others, together with the broker. The points are those
of :mod:`trainq.crashpoints` and of :mod:`tests.faults.workshops`. One JSON object on stdout: ``kills`` by act,
and ``wrong``, which must be empty.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.faults.acts import Act
from tests.faults.maintenance import Trigger, built
from tests.faults.workshops import Workshop, in_a_fork
from trainq import crashpoints
from trainq.jobs import JobState

# Of the points of the worker each so-and-so-many-th is one at which the broker dies, too.
TOGETHER = 11


def reaches(act: Act, shop: Workshop) -> list[str]:
    """One undisturbed life; each point that it reaches, as often as it does."""
    reached: list[str] = []
    crashpoints.reach = reached.append  # type: ignore[assignment]  # it counts in its place
    assert act.live(shop) is JobState.SUCCEEDED
    return reached


def killed(act: Act, shop: Workshop, point: str, hits: int) -> list[str]:
    crashpoints.arm(point, hits)
    act.live(shop)
    return []


def killed_alone(act: Act, point: str, hits: int, may_miss: bool) -> list[str]:
    """The worker dies, and is started again beside the same broker: what is wrong when the task has ended."""
    with contextlib.closing(act.open()) as shop:
        status, _ = shop.beside(partial(killed, act, shop, point, hits))
        wrong = after_the_kill(act, status, may_miss)
        state = act.live(shop)
        wrong += act.wrong_at_the_end(shop)
        return wrong if state is JobState.SUCCEEDED else [*wrong, f"it ended {state}: {shop.look_at(act.job).reason}"]


def killed_together(act: Act, point: str, hits: int, may_miss: bool) -> list[str]:
    """Both die, and both are started again."""
    status, _ = in_a_fork(lambda: killed(act, act.open(), point, hits))
    return [*after_the_kill(act, status, may_miss), *in_a_fork(partial(next_life, act))[1]]


def after_the_kill(act: Act, status: int, may_miss: bool) -> list[str]:
    wrong = [] if status == -signal.SIGKILL or may_miss else ["it was not killed there"]
    wrong += act.wrong_now()
    if isinstance(act, Trigger):
        act.touch_again()
    return wrong


def next_life(act: Act) -> list[str]:
    """The service is started again: what is wrong when the task has ended."""
    shop = act.open()
    state = act.live(shop)
    wrong = act.wrong_at_the_end(shop)
    return wrong if state is JobState.SUCCEEDED else [f"it ended {state}: {shop.queries.job(act.job).reason}", *wrong]


def in_place(act: Act, template: Path, work: Callable[[], list[str]]) -> list[str]:
    """What it says where the act's place is as it was built."""
    shutil.copytree(template, act.place)
    try:
        return work()
    finally:
        shutil.rmtree(act.place)


def reached_alone(act: Act) -> list[str]:
    with contextlib.closing(act.open()) as shop:
        return shop.beside(partial(reaches, act, shop))[1]


def reached_together(act: Act) -> list[str]:
    return in_a_fork(lambda: reaches(act, act.open()))[1]


def numbered(reached: list[str]) -> list[tuple[str, int]]:
    """(point, n-th time) of each."""
    return [(point, hits) for point, times in Counter(reached).items() for hits in range(1, times + 1)]


def campaign(folder: Path, names: list[str], stride: int) -> dict[str, object]:
    kills: dict[str, int] = {}
    wrong: list[str] = []
    for act, template in built(folder, names):
        kind = type(act)
        # At the journal's points there is only the broker: those are counted where both are one process.
        by_worker = in_place(act, template, partial(reached_alone, act))
        journals = [point for point in in_place(act, template, partial(reached_together, act))
                    if point.startswith("journal.")]
        places = [(killed_alone, *each) for each in numbered(by_worker)]
        places += [(killed_together, *each) for each in [*numbered(by_worker)[::TOGETHER], *numbered(journals)]]
        places = places[::stride]
        kills[kind.__name__] = len(places)
        for kill, point, hits in places:
            may_miss = hits > [*by_worker, *journals].count(point) - act.may_lack
            try:
                found = in_place(act, template, partial(kill, act, point, hits, may_miss))
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            wrong += [f"{kind.__name__}, {kill.__name__}, {point} {hits}: {each}" for each in found]
    return {"kills": kills, "wrong": wrong}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--stride", type=int, default=1, help="only every n-th of the kills")
    chosen = parser.parse_args()
    print(json.dumps(campaign(chosen.folder, chosen.names, chosen.stride), indent=1))
