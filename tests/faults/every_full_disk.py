"""Each task of maintenance on a disk that fills after so many pages: ``every_full_disk.py FOLDER [WRITES [ACT ...]]``.

The disk is a tmpfs in a mount namespace of this program's own (it starts itself anew under ``unshare -rm``): that of
the home, or that to which something is copied. One undisturbed life says how many pages a task takes. Then, for
``WRITES`` of them, the disk has just so many left, first with the look for room that comes before it, then as if
somebody else took the room just after that. The task must say what to do, leave nothing half made, and be done when
there is room again. One JSON object on stdout: ``full`` by act, and ``wrong``, which must be empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

from tests.faults.acts import Act
from tests.faults.every_maintenance_fault import MENDS
from tests.faults.maintenance import built
from tests.faults.sites import Disk
from tests.faults.workshops import in_a_fork, left_over
from trainq import room
from trainq.errors import StorageError, StorageFullError
from trainq.jobs import JobState

PAGE = 4096
NOTICED = "it could not be done"
# Where the disk lies: that of the home, or for what is copied away that of the place elsewhere.
DISKS = ("home", "elsewhere")


def used(disk: Disk) -> int:
    found = os.statvfs(disk.at)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // PAGE


def undisturbed_pages(disk: Disk, work: Callable[[], object]) -> int:
    """How many pages more are taken after ``work``."""
    before = used(disk)
    work()
    return used(disk) - before


def undisturbed(act: Act) -> list[str]:
    act.live(act.open())
    return []


def without_room(act: Act, *, is_looked_for: bool) -> list[str]:
    """What is wrong while there is no room; :data:`NOTICED` first, where the task could not be done."""
    looking = room.refuse_without if is_looked_for else mock.Mock()
    state, told = JobState.QUEUED, ""
    with mock.patch("trainq.room.refuse_without", looking):
        try:
            shop = act.open()
            state = act.live(shop)
        except (StorageError, StorageFullError) as caught:
            told = str(caught)
    if state is JobState.FAILED:
        told = shop.queries.job(act.job).reason or "nothing"
    # A full disk hinders no removing: what did not become whole has gone at once.
    wrong = act.wrong_now() + left_over(act.place)
    if state is JobState.SUCCEEDED:
        return wrong
    said = any(mend in told for mend in MENDS)
    return [NOTICED, *wrong, *([] if said else [f"it does not say what to do: {told}"])]


def with_room(act: Act) -> list[str]:
    """The next life, with room again: what is wrong when the task was done, asked for once more if it had failed."""
    shop = act.open()
    if act.job and shop.state(act.job) is JobState.FAILED:
        act.job = act.ask(shop)
    state = act.live(shop)
    wrong = [] if state is JobState.SUCCEEDED else [f"it ends {state}: {shop.queries.job(act.job).reason}"]
    act.start_again(shop)
    return wrong + act.wrong_at_the_end(shop)


def drawn(total: int, writes: int) -> list[int]:
    """How many pages are left: few and many, and each of the last ones, which are small things after large ones."""
    last = range(max(0, total - writes // 2), total)
    return sorted({*range(0, total, max(1, 2 * total // writes)), *last})


def campaign(folder: Path, writes: int, names: list[str]) -> dict[str, object]:
    full: dict[str, int] = {}
    wrong: list[str] = []
    for act, template in built(folder, names):
        kind = type(act)
        for where in DISKS if act.copies else DISKS[:1]:
            with on_a_disk(act, template, where) as disk:
                total = undisturbed_pages(disk, partial(in_a_fork, partial(undisturbed, act)))
            for pages in drawn(total, writes):
                for is_looked_for in (True, False):
                    with on_a_disk(act, template, where) as disk:
                        disk.fill("bytes", pages * PAGE)
                        _, found = in_a_fork(partial(without_room, act, is_looked_for=is_looked_for))
                        disk.give_room()
                        _, afterwards = in_a_fork(partial(with_room, act))
                    full[kind.__name__] = full.get(kind.__name__, 0) + found.count(NOTICED)
                    wrong += [f"{kind.__name__}, {pages} of {total} pages left in {where}, "
                              f"looked for: {is_looked_for}: {each}" for each in (*found, *afterwards)
                              if each != NOTICED]
    return {"full": full, "wrong": wrong}


@contextlib.contextmanager
def on_a_disk(act: Act, template: Path, where: str) -> Iterator[Disk]:
    """The act's place as it was built, with ``where`` in it on a disk of its own."""
    at = act.place / where
    at.mkdir(parents=True)
    disk = Disk(at)
    shutil.copytree(template, act.place, dirs_exist_ok=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(at)], check=True)
        shutil.rmtree(act.place)


if __name__ == "__main__":
    if os.environ.get("TRAINQ_TEST_UNSHARED") != "1":
        os.environ["TRAINQ_TEST_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    print(json.dumps(campaign(Path(sys.argv[1]), number, sys.argv[3:]), indent=1))
