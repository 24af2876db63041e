"""Kill at each (point, n-th time) of each task of maintenance: ``every_maintenance_kill.py FOLDER [ACT ...]``.

Each life is a fork: one undisturbed counts how often each point is reached; then one is killed at each of them, and the
next one must end the task, with nothing half made left and nothing lost. The points are those of
:mod:`trainq.crashpoints` and of :mod:`tests.faults.workshops`. One JSON object on stdout: ``kills`` by act, and
``wrong``, which must be empty.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from tests.faults.maintenance import ACTS, Act, Trigger
from tests.faults.workshops import in_a_fork
from trainq import crashpoints
from trainq.jobs import JobState


def count_reaches(act: Act) -> list[str]:
    """One undisturbed life; each point that it reaches, as often as it does."""
    reached: list[str] = []
    shop = act.open()
    crashpoints.reach = reached.append  # type: ignore[assignment]  # it counts in its place
    assert act.live(shop) is JobState.SUCCEEDED, shop.queries.job(act.job).reason
    return reached


def killed(act: Act, point: str, hits: int) -> list[str]:
    shop = act.open()
    crashpoints.arm(point, hits)
    act.live(shop)
    return []


def next_life(act: Act) -> list[str]:
    """The service is started again: what is wrong when the task has ended."""
    shop = act.open()
    state = act.live(shop)
    wrong = act.wrong_at_the_end(shop)
    return wrong if state is JobState.SUCCEEDED else [f"it ended {state}: {shop.queries.job(act.job).reason}", *wrong]


def warm_up(act: Act, template: Path) -> None:
    """A life in this very process: what is made at its first use, each fork would make again."""
    shutil.copytree(template, act.place)
    shop = act.open()
    act.live(shop)
    shop.close()
    shutil.rmtree(act.place)


def campaign(folder: Path, names: list[str]) -> dict[str, object]:
    kills: dict[str, int] = {}
    wrong: list[str] = []
    for kind in (each for each in ACTS if not names or each.__name__ in names):
        act = kind(folder / "place")
        act.build()
        template = act.place.rename(folder / kind.__name__)
        warm_up(act, template)
        shutil.copytree(template, act.place)
        _, reached = in_a_fork(partial(count_reaches, act))
        shutil.rmtree(act.place)
        places = [(point, hits) for point, times in Counter(reached).items() for hits in range(1, times + 1)]
        kills[kind.__name__] = len(places)
        for point, hits in places:
            shutil.copytree(template, act.place)
            status, _ = in_a_fork(partial(killed, act, point, hits))
            may_miss = hits > reached.count(point) - act.may_lack
            found = [] if status == -signal.SIGKILL or may_miss else ["it was not killed there"]
            found += act.wrong_now()
            if isinstance(act, Trigger):
                act.touch_again()
            _, at_the_end = in_a_fork(partial(next_life, act))
            wrong += [f"{kind.__name__}, {point} {hits}: {each}" for each in (*found, *at_the_end)]
            shutil.rmtree(act.place)
    return {"kills": kills, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(campaign(Path(sys.argv[1]), sys.argv[2:]), indent=1))
