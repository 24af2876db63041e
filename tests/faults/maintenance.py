"""What maintenance does, one task at a time, with what must hold at every instant and at the end: for the campaigns.

Each act has a place, a folder with a home in it and, where it copies something elsewhere, with ``elsewhere`` beside it.
It lies at the same path in each of its lives, because a task names its destination by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from services.retention.app import Retention
from services.snapshot.app import Snapshotter
from services.watcher.triggers import Triggers
from tests import generations
from tests.faults.workshops import Workshop, left_over
from tests.stories import TRAINED
from trainq import backups, checkpoints, files, manifests, objects, snapshots
from trainq.config import Home
from trainq.errors import DamageError
from trainq.jobs import JobKind, JobState, Store
from trainq.journal import proving
from trainq.messages import BackupTask, CopyTask, Hello, RetentionTask, SnapshotTask, Task, TaskLease, UndeleteTask
from trainq.service import Worker

WORKERS = {"snapshot": Snapshotter, "retention": Retention}
Digests = dict[str, str]


class Act(ABC):
    """A task of maintenance. ``place`` is where its home lies."""

    service = "snapshot"
    settings: Mapping[str, str] = MappingProxyType({})
    # Whether it writes to a place elsewhere.
    copies = False
    # How many of its operations another life may lack.
    may_lack = 0

    def __init__(self, place: Path) -> None:
        self.place = place
        self.elsewhere = place / "elsewhere"
        self.home = Home(place / "home")
        self.job = ""
        self._untouched: Digests = {}

    def open(self) -> Workshop:
        return Workshop(self.place, **self.settings)

    def build(self) -> None:
        """Make the place, with the task in the queue."""
        shop = self.open()
        self.furnish(shop)
        self.job = self.ask(shop)
        self._untouched = self.digests()
        shop.close()

    @abstractmethod
    def furnish(self, shop: Workshop) -> None:
        """What there is before the task is asked for."""

    @abstractmethod
    def task(self) -> Task:
        """What is asked for."""

    def ask(self, shop: Workshop) -> str:
        return shop.submit_task(self.task())

    def worker(self, shop: Workshop) -> Worker[TaskLease]:
        return shop.worker(WORKERS[self.service], self.service)

    def live(self, shop: Workshop) -> JobState:
        """A life of the service, until the task has ended."""
        return shop.work_until_ended(self.worker(shop), self.job)

    def start_again(self, shop: Workshop) -> None:
        """What the next start of the service does before it takes a task, which is to sweep."""
        self.worker(shop)

    def sources(self) -> tuple[Path, ...]:
        """The folders that it only reads."""
        return self.home.data, self.home.checkpoints

    def digests(self) -> Digests:
        return {str(path): manifests.digest_file(path) for folder in self.sources() for path in files.list_tree(folder)}

    def wrong_now(self) -> list[str]:
        """What may not be at any instant; without a journal, which somebody may have open."""
        wrong = [] if self.digests() == self._untouched else ["what is only read was changed"]
        for path in snapshots.list_snapshots(self.home.snapshots):
            wrong += snapshots.verify(self.home.snapshots, path.name, lambda _: None)
        for path in checkpoints.list_generations(self.home.checkpoints):
            checkpoints.verify(path)
        return wrong

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        """What must be otherwise once the task has succeeded and its service was started once more."""
        left = left_over(self.place)
        left += [f"{path.name} is left" for path in self.home.run.iterdir() if path.name.startswith("journal-copy")]
        return [*self.wrong_now(), *left, *(f"the journal: {each}" for each in proving.prove(shop.journal))]


def train_one(shop: Workshop) -> None:
    """A file that was trained, and one that waits."""
    base = generations.publish(shop.home.checkpoints, 1, {"w": b"base" * 300})
    head = generations.publish(shop.home.checkpoints, 2, {"w": b"head" * 300}, parent=base, base=base, job="train-1")
    shop.submit("trained")
    shop.prepare_next()
    lease = shop.lease(JobKind.TRAIN)
    assert lease is not None
    shop.complete(lease, TRAINED)
    hear_of(shop, head)
    shop.submit("waiting")


def hear_of(shop: Workshop, name: str) -> None:
    """Have the broker hear of a generation, as the trainer tells it of its head."""
    head = checkpoints.parse_name(name)
    assert head is not None
    shop.ask(Hello(request_id=shop.id(), worker="trainer", session="s", generation=head.generation, name=name,
                   step=head.step))


def take_snapshot(home: Home, name: str) -> None:
    snapshots.create(home.snapshots, home.checkpoints / name, jobs=b"", job_count=0, created_at=1.0, created_by="test",
                     on_chunk=lambda _: None)


class Snapshot(Act):
    """A snapshot of the head."""

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)

    def task(self) -> Task:
        return SnapshotTask()

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        found = [path.name for path in snapshots.list_snapshots(self.home.snapshots)]
        return [*super().wrong_at_the_end(shop), *([] if found == ["g000002-s00000020"] else [f"there are {found}"])]


class Backup(Act):
    """A backup into a folder that is not there yet."""

    copies = True
    # The journal has other bytes in each life, so the folder of their digest may be there already.
    may_lack = 2
    number = 1

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)

    def task(self) -> Task:
        return BackupTask(destination=str(self.elsewhere))

    def start_again(self, shop: Workshop) -> None:
        """A folder elsewhere is swept by the next backup into it."""
        shop.work_until_ended(self.worker(shop), self.ask(shop))

    def wrong_now(self) -> list[str]:
        return super().wrong_now() + [
            wrong for path in backups.list_backups(self.elsewhere)
            for wrong in backups.verify(self.elsewhere, path.name, lambda _: None)]

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        wrong = super().wrong_at_the_end(shop)
        found = backups.list_backups(self.elsewhere)
        # Done again it is another one: the journal has gone on.
        if len(found) < self.number:
            wrong.append(f"there are only {len(found)} backups")
        named = set(backups.find(self.elsewhere).manifest.files)
        needed = {self.home.journal.name, *(path.relative_to(self.home.root).as_posix() for path in (
            *files.list_tree(self.home.data), *files.list_tree(self.home.checkpoints)))}
        return wrong if named == needed else [*wrong, f"the newest is otherwise in {sorted(named ^ needed)}"]


class SecondBackup(Backup):
    """The next one, into the folder of the first, which shares with it what they have in common."""

    number = 2

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        assert shop.work_until_ended(self.worker(shop), shop.submit_task(self.task())) is JobState.SUCCEEDED
        self._first = backups.list_backups(self.elsewhere)[0].name
        shop.submit("one more")

    def wrong_now(self) -> list[str]:
        is_there = self._first in [path.name for path in backups.list_backups(self.elsewhere)]
        return super().wrong_now() + ([] if is_there else ["the first one is gone"])


class Copy(Act):
    """Snapshots copied elsewhere."""

    copies = True

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)
        for path in checkpoints.list_generations(self.home.checkpoints):
            take_snapshot(self.home, path.name)

    def task(self) -> Task:
        return CopyTask(destination=str(self.elsewhere))

    def sources(self) -> tuple[Path, ...]:
        return *super().sources(), self.home.snapshots / objects.FOLDER, *snapshots.list_snapshots(self.home.snapshots)

    def wrong_now(self) -> list[str]:
        return super().wrong_now() + [
            wrong for path in snapshots.list_snapshots(self.elsewhere)
            if (path / manifests.MANIFEST_NAME).exists()
            for wrong in snapshots.verify(self.elsewhere, path.name, lambda _: None)]

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        here, there = ([path.name for path in snapshots.list_snapshots(store)
                        if (path / manifests.MANIFEST_NAME).exists()]
                       for store in (self.home.snapshots, self.elsewhere))
        return super().wrong_at_the_end(shop) + ([] if here == there else [f"{there} are there, and {here} here"])


class Retain(Act):
    """What no rule keeps goes to the trash."""

    service = "retention"
    settings = MappingProxyType({
        "TRAINQ_RETENTION_CHECKPOINTS_LAST": "2", "TRAINQ_RETENTION_SNAPSHOTS_LAST": "1",
        "TRAINQ_RETENTION_SNAPSHOTS_DAILY": "0", "TRAINQ_RETENTION_SNAPSHOTS_WEEKLY": "0"})
    generations = 4

    def furnish(self, shop: Workshop) -> None:
        names: list[str] = []
        for number in range(1, self.generations + 1):
            parent = names[-1] if names else ""
            names.append(generations.publish(
                self.home.checkpoints, number, {"model.safetensors": b"%d" % number, "same": b"same"}, base=parent,
                parent=parent, job=f"train-{number}"))
            take_snapshot(self.home, names[-1])
        hear_of(shop, names[-1])
        self._names = names

    def task(self) -> Task:
        return RetentionTask()

    def sources(self) -> tuple[Path, ...]:
        return (self.home.data,)

    def stock(self) -> dict[str, int]:
        """How many copies there are in each place."""
        return {folder.name: len(checkpoints.list_generations(folder) if folder != self.home.trash
                                 else list(folder.iterdir()))
                for folder in (self.home.checkpoints, self.home.snapshots, self.home.trash)}

    def wrong_now(self) -> list[str]:
        """Whatever happens the newest are there, and everything in its place or in the trash is whole."""
        wrong = super().wrong_now()
        newest = self._names[-2:], self._names[-1:]
        for store, names in zip((self.home.checkpoints, self.home.snapshots), newest, strict=True):
            there = {path.name for path in checkpoints.list_generations(store)}
            wrong += [f"{name} is not in {store.name}/" for name in names if name not in there]
        for path in self.home.trash.glob(f"*-{Store.SNAPSHOTS.value}-*") if self.home.trash.is_dir() else ():
            try:
                wrong += [f"{path.name} lacks {record.blake3}"
                          for record in snapshots.read(path).manifest.files.values()
                          if not objects.is_kept(self.home.snapshots, record)]
            except DamageError as error:
                wrong.append(str(error))
        return wrong

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        wrong, stock = super().wrong_at_the_end(shop), self.stock()
        if stock != self.expected():
            wrong.append(f"there are {stock}")
        named = {removal.removal for removal in shop.queries.removals(100) if removal.state == "trash"}
        there = {int(path.name.partition("-")[0]) for path in self.home.trash.iterdir()}
        return wrong if named == there else [*wrong, f"the trash holds {there}, and the journal says {named}"]

    def expected(self) -> dict[str, int]:
        return {"checkpoints": 2, "snapshots": 1, "trash": 5}


class Purge(Retain):
    """The trash is emptied, and the objects that nothing names any more go."""

    settings = MappingProxyType({**Retain.settings, "TRAINQ_RETENTION_TRASH_HOURS": "0"})

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        assert shop.work_until_ended(self.worker(shop), shop.submit_task(self.task())) is JobState.SUCCEEDED

    def expected(self) -> dict[str, int]:
        return {"checkpoints": 2, "snapshots": 1, "trash": 0}

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        kept = snapshots.read(self.home.snapshots / self._names[-1]).manifest.files.values()
        there = sorted(path.name for path in (self.home.snapshots / objects.FOLDER).glob("*/*"))
        exact = there == sorted({record.blake3 for record in kept})
        return super().wrong_at_the_end(shop) + ([] if exact else ["objects are left that nothing names"])


class Undelete(Retain):
    """A copy is brought back from the trash."""

    store = Store.CHECKPOINTS
    generations = 3

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        assert shop.work_until_ended(self.worker(shop), shop.submit_task(RetentionTask())) is JobState.SUCCEEDED
        self._removal = next(each for each in shop.queries.removals(100) if each.store is self.store)

    def task(self) -> Task:
        return UndeleteTask(removal=self._removal.removal)

    def expected(self) -> dict[str, int]:
        return {"checkpoints": 3, "snapshots": 1, "trash": 2}


class UndeleteSnapshot(Undelete):
    store = Store.SNAPSHOTS

    def expected(self) -> dict[str, int]:
        return {"checkpoints": 2, "snapshots": 2, "trash": 2}


class Trigger(Act):
    """Two files in ``control/``, and one of them once more after a kill: a task for each of them, and no other."""

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)
        for word in ("snapshot", "verify"):
            (self.home.control / f".trigger_{word}").touch()
        (self.place / "touched").write_text("1")

    def task(self) -> Task:
        raise AssertionError("a file asks")

    def ask(self, shop: Workshop) -> str:  # noqa: ARG002
        return ""

    def touch_again(self) -> None:
        """What a person does who sees no file there."""
        again = self.home.control / ".trigger_snapshot"
        if not again.exists():
            again.touch()
            (self.place / "touched").write_text("2")

    def start_again(self, shop: Workshop) -> None:
        """It has nothing to sweep."""

    def live(self, shop: Workshop) -> JobState:
        process = shop.process("watcher")
        Triggers(process, shop.peer(process)).carry()
        return JobState.SUCCEEDED

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        asked = {kind.value: len(shop.queries.open_tasks(kind)) for kind in (JobKind.SNAPSHOT, JobKind.VERIFY)}
        wanted = {"snapshot": int((self.place / "touched").read_text()), "verify": 1}
        left = [path.name for path in self.home.control.iterdir()]
        return [*super().wrong_at_the_end(shop), *([] if asked == wanted else [f"tasks {asked}, not {wanted}"]),
                *([f"{left} are left in control/"] if left else [])]


ACTS: tuple[type[Act], ...] = (Snapshot, Backup, SecondBackup, Copy, Retain, Purge, Undelete, UndeleteSnapshot, Trigger)
