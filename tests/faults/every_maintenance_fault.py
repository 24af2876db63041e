"""Fail each durable operation of each task of maintenance: ``every_maintenance_fault.py FOLDER [STRIDE [ACT ...]]``.

One undisturbed fork counts the durable operations of the worker. Then, at each of them (each ``STRIDE``-th), with each
error, once and for ever, a fork does the task under the fault, and again when the fault has passed: by itself where it
was given back, asked for once more where it failed. The broker lives beside it, and its journal is not hit. One JSON
object on stdout: ``faults`` by act, and ``wrong``, which must be empty.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path

from tests.faults.acts import Act
from tests.faults.maintenance import built
from tests.faults.workshops import in_a_fork
from trainq import diskfaults
from trainq.errors import StorageError, StorageFullError
from trainq.jobs import JobState

ERRORS = ("ENOSPC", "EIO")
# What every word about a disk ends with: what a person can do.
MENDS = ("free some", "look at the disk", "look at the place")


def count(act: Act) -> list[str]:
    shop = act.open()
    diskfaults.count()
    act.live(shop)
    return [str(diskfaults.disarm()[0])]


def under_a_fault(act: Act, error: str, at: int, *, for_ever: bool, may_miss: bool) -> list[str]:
    """What is wrong while the fault is there, and when it has passed; the process lives on."""
    shop = act.open()
    state, told = JobState.QUEUED, ""
    diskfaults.arm(error, at, for_ever=for_ever)
    try:
        state = act.live(shop)
    except (StorageError, StorageFullError) as caught:
        told = str(caught)
    _, failed = diskfaults.disarm()
    wrong = act.wrong_now() + ([] if failed or may_miss else ["the fault was not met"])
    if state is JobState.FAILED:
        told = shop.queries.job(act.job).reason or "nothing"
    if state is not JobState.SUCCEEDED and not any(mend in told for mend in MENDS):
        wrong.append(f"it does not say what to do: {told}")
    if state is JobState.FAILED:
        act.job = act.ask(shop)
    if state is not JobState.SUCCEEDED:
        state = act.live(shop)
    if state is not JobState.SUCCEEDED:
        wrong.append(f"the fault has passed, and it still ends {state}: {shop.queries.job(act.job).reason}")
    return wrong


def next_life(act: Act) -> list[str]:
    """What the next start of the service finds, and leaves."""
    shop = act.open()
    act.start_again(shop)
    return act.wrong_at_the_end(shop)


def campaign(folder: Path, stride: int, names: list[str]) -> dict[str, object]:
    faults: dict[str, int] = {}
    wrong: list[str] = []
    drawn = 0
    for act, template in built(folder, names):
        kind = type(act)
        shutil.copytree(template, act.place)
        _, (counted,) = in_a_fork(partial(count, act))
        total = int(counted)
        shutil.rmtree(act.place)
        faults[kind.__name__] = 0
        for place in [(at, error, for_ever) for at in range(1, total + 1) for error in ERRORS
                      for for_ever in (False, True)]:
            drawn += 1
            if drawn % stride:
                continue
            at, error, for_ever = place
            faults[kind.__name__] += 1
            shutil.copytree(template, act.place)
            work = partial(under_a_fault, act, error, at, for_ever=for_ever, may_miss=at > total - act.may_lack)
            _, found = in_a_fork(work)
            _, afterwards = in_a_fork(partial(next_life, act))
            wrong += [f"{kind.__name__}, {error} at {at} of {total}, for ever: {for_ever}: {each}"
                      for each in (*found, *afterwards)]
            shutil.rmtree(act.place)
    return {"faults": faults, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(campaign(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1, sys.argv[3:]), indent=1))
