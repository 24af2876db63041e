"""Looking at what is left when everything has stopped: each check by itself says what is wrong, or nothing.

The three that matter most are programs of their own: ``trainq fsck``, the driver that trains again what the journal
promises (:mod:`trainq.ml.rederiving`), and the checker that imports nothing of trainq.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from trainq import backups, evaluations, snapshots
from trainq.chaos.installation import Installation, NotInTimeError
from trainq.config import HOME_KEY, Home
from trainq.errors import TrainqError
from trainq.files import TEMPORARY_PREFIX
from trainq.snapshots import Snapshot

# Where the campaign's backups lie, in its folder.
BACKUPS = "backups"

_PROGRAM_SECONDS = 1800.0
_CHECKER = "trainq_checker"


def prove(installation: Installation, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Everything that is wrong with the stopped installation, in order; reports of the programs go to ``folder``."""
    return [*_processes(installation), *_temporaries(installation.home.root), *_temporaries(folder / BACKUPS),
            *_programs(installation, folder, say), *_results(installation.home),
            *copies(installation.home, folder / BACKUPS, say), *_restored(installation, folder, say)]


def _processes(installation: Installation) -> list[str]:
    return [f"process {seen.pid} ({seen.role}) still lives" for seen in installation.processes()]


def _temporaries(root: Path) -> list[str]:
    return [f"{Path(folder, name).relative_to(root)} was left behind"
            for folder, folders, names in os.walk(root) for name in [*folders, *names]
            if name.startswith(TEMPORARY_PREFIX)]


def _results(home: Home) -> Iterator[str]:
    """What is wrong with the results of evaluations: each that is there is whole."""
    folder = home.evaluations
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            evaluations.read(home, path.name)
        except TrainqError as error:
            yield f"{path.parent.name}/{path.name}: {error}"


def copies(home: Home, backups_folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """What is wrong with the snapshots, and what they need, and with the backups. Changes nothing."""
    say("snapshots and backups ...")
    for path in snapshots.list_snapshots(home.snapshots):
        yield from _faults(path, lambda name: snapshots.faults_of(home.snapshots, name, lambda _: None)
                           or _lacking(home, snapshots.find(home.snapshots, name)))
    for path in backups.list_backups(backups_folder):
        yield from _faults(path, lambda name: backups.faults_of(backups_folder, name, lambda _: None))


def _lacking(home: Home, snapshot: Snapshot) -> list[str]:
    return [f"{name}, without which it is worth nothing, is in no copy" for name in snapshots.needed([snapshot])
            if not any((folder / name).is_dir() for folder in (home.snapshots, home.checkpoints))]


def _faults(path: Path, faults_of: Callable[[str], list[str]]) -> list[str]:
    try:
        return [f"{path.parent.name}/{path.name}: {fault}" for fault in faults_of(path.name)]
    except TrainqError as error:
        return [f"{path.parent.name}/{path.name}: {error}"]


def _programs(installation: Installation, folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    home, driver = str(installation.home.root), folder / "driver"
    yield from _run(installation, folder, say, "fsck", "-m", "trainq.cli", "fsck")
    wrong = list(_run(installation, folder, say, "driver", "-m", "trainq.ml.rederiving", "--home", home, "--into",
                      str(driver)))
    yield from wrong
    # Without the driver's weights the checker still has its say on everything else.
    compared = [] if wrong else ["--driver", str(driver)]
    yield from _run(installation, folder, say, "checker", "-m", _CHECKER, home, "--strict", "--receipts",
                    str(folder / "receipts.jsonl"), *compared)


def _restored(installation: Installation, folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """What is wrong with the home that the last backup makes."""
    store, root = folder / BACKUPS, folder / "restored"
    if not backups.list_backups(store):
        return
    try:
        backups.restore(store, backups.find(store), root, lambda _: None)
    except TrainqError as error:
        yield f"{BACKUPS}: {error}"
        return
    installation.settings[HOME_KEY] = str(root)
    yield from _run(installation, folder, say, "restored-fsck", "-m", "trainq.cli", "fsck")
    yield from _run(installation, folder, say, "restored-checker", "-m", _CHECKER, str(root), "--allow-open")
    del installation.settings[HOME_KEY]


def _run(installation: Installation, folder: Path, say: Callable[[str], None], name: str, *words: str) -> Iterator[str]:
    say(f"{name} ...")
    try:
        done = installation.run(*words, seconds=_PROGRAM_SECONDS)
    except NotInTimeError as error:
        yield f"{name}: {error}"
        return
    (folder / f"{name}.out").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()
        failed = [line for line in said if line.startswith("FAIL")]
        yield f"{name} exits with {done.returncode}: {(failed or said or ['it says nothing'])[0 if failed else -1]}"
