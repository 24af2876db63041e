"""A merge killed at each crash point, and full after each page: ``every_merge_fault.py FOLDER [POINTS PAGES]``.

It is what a consolidation's child does, on a tmpfs in a mount namespace of this program's own, which starts itself anew
under ``unshare -rm``: so the libraries that write the weights meet the full disk, too (what :mod:`trainq.files` does
fails in turn in ``every_io_fault.py``). ``POINTS`` and ``PAGES`` are strides. One JSON object on stdout:
``kills``, ``full``, and ``wrong``, which must be empty.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from tests.faults.every_full_disk import NOTICED, PAGE, undisturbed_pages
from tests.faults.every_io_fault import Merge, make_lines
from tests.faults.every_maintenance_kill import numbered
from tests.faults.sites import Disk
from tests.faults.workshops import in_a_fork, left_over
from trainq import builtin, crashpoints, room
from trainq.config import Home
from trainq.errors import StorageFullError
from trainq.textcodec import TextCodec


def reaches(act: Merge) -> list[str]:
    reached: list[str] = []
    crashpoints.reach = reached.append  # type: ignore[assignment]  # it counts in its place
    act.do()
    return reached


def killed(act: Merge, point: str, hits: int) -> list[str]:
    crashpoints.arm(point, hits)
    act.do()
    return []


def without_room(act: Merge, *, is_looked_for: bool) -> list[str]:
    """What is wrong while there is no room; :data:`NOTICED` first, where it could not be done."""
    looking = room.refuse_without if is_looked_for else mock.Mock()
    with mock.patch("trainq.room.refuse_without", looking):
        try:
            act.do()
        except StorageFullError as error:
            said = [] if "free some space" in str(error) else [f"it does not say what to do: {error}"]
            return [NOTICED, *said, *left_over(act.home.root), *wrong_now(act)]
    return []


def wrong_now(act: Merge) -> list[str]:
    return [] if act.is_acknowledged_kept() else ["the line, or what is in merged/, is not whole"]


def next_life(act: Merge) -> list[str]:
    wrong = wrong_now(act)
    act.do()
    return [*wrong, *([] if act.holds() else ["it is not done"]), *left_over(act.home.root)]


@contextmanager
def on_a_disk(folder: Path) -> Iterator[tuple[Disk, Merge]]:
    """A line that has learned, on a disk of its own."""
    at = folder / "disk"
    at.mkdir(exist_ok=True)
    disk = Disk(at)
    try:
        shutil.copytree(folder / "adapted", at / "home", symlinks=True)
        yield disk, Merge(Home(at / "home"), TextCodec.load(builtin.folder()))
    finally:
        subprocess.run(["umount", str(at)], check=True)


def campaign(folder: Path, of_points: int, of_pages: int) -> dict[str, object]:
    make_lines(folder)
    wrong: list[str] = []
    with on_a_disk(folder) as (disk, act):
        _, reached = in_a_fork(partial(reaches, act))
        pages = undisturbed_pages(disk, partial(shutil.copytree, act.home.merged, folder / "disk" / "again"))
    kills = numbered(reached)[::of_points]
    for point, hits in kills:
        with on_a_disk(folder) as (_, act):
            status, _ = in_a_fork(partial(killed, act, point, hits))
            found = [] if status == -signal.SIGKILL else ["it was not killed there"]
            found += in_a_fork(partial(next_life, act))[1]
        wrong += [f"{point} {hits}: {each}" for each in found]
    full = 0
    for left in range(0, pages, of_pages):
        for is_looked_for in (True, False):
            with on_a_disk(folder) as (disk, act):
                disk.fill("bytes", left * PAGE)
                _, found = in_a_fork(partial(without_room, act, is_looked_for=is_looked_for))
                disk.give_room()
                full += found.count(NOTICED)
                found += in_a_fork(partial(next_life, act))[1]
            wrong += [f"{left} of {pages} pages left, looked for: {is_looked_for}: {each}" for each in found
                      if each != NOTICED]
    return {"kills": len(kills), "full": full, "wrong": wrong}


if __name__ == "__main__":
    if os.environ.get("TRAINQ_TEST_UNSHARED") != "1":
        os.environ["TRAINQ_TEST_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    strides = [int(word) for word in sys.argv[2:]] or [1, 1]
    print(json.dumps(campaign(Path(sys.argv[1]), *strides), indent=1))
