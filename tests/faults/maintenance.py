"""What maintenance does, one task at a time, with what must hold at every instant and at the end: for the campaigns.

Each act has a place, a folder with a home in it and, where it copies something elsewhere, with ``elsewhere`` beside it.
It lies at the same path in each of its lives, because a task names its destination by it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.watcher.triggers import Triggers
from tests import generations
from tests.faults.acts import Act, hear_of, take_snapshot, train_one
from tests.faults.learning import Evaluate, Generate
from tests.faults.letting_go import Drop, Purge, Retain, Undelete, UndeleteSnapshot
from tests.faults.workshops import Workshop
from trainq import backups, checkpoints, files, manifests, objects, publishing, snapshots
from trainq.destinations import Destination
from trainq.jobs import JobKind, JobState
from trainq.messages import BackupTask, CopyTask, Promote, PublishTask, SnapshotTask, Task


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


class PrunedBackup(Backup):
    """The next one into the folder of the first, which goes then, with all that only it holds."""

    # What is removed lies in other folders' order.
    may_lack = 4

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        assert shop.work_until_ended(self.worker(shop), shop.submit_task(self.task())) is JobState.SUCCEEDED
        shop.submit("one more")

    def task(self) -> Task:
        return BackupTask(destination=str(self.elsewhere), keep_last=1)

    def wrong_now(self) -> list[str]:
        return super().wrong_now() + ([] if backups.list_backups(self.elsewhere) else ["there is none"])

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        found = backups.list_backups(self.elsewhere)
        named = {record.blake3 for path in found for record in backups.read(path).manifest.files.values()}
        exact = {path.name for path in (self.elsewhere / objects.FOLDER).glob("*/*")} == named
        return super().wrong_at_the_end(shop) + ([] if exact and len(found) == 1 else [
            f"there are {len(found)} backups" if exact else "objects are left that nothing names"])


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


class Publish(Act):
    """The champion put elsewhere, where its forerunner is pointed at."""

    copies = True

    def furnish(self, shop: Workshop) -> None:
        train_one(shop)
        for number in (3, 4):
            name = generations.publish(self.home.checkpoints, number, {
                "config.json": b"{}", "model.safetensors": bytes([number]) * 3000}, parent="g000002-s00000020")
            hear_of(shop, name)
            shop.ask(Promote(request_id=shop.id(), checkpoint=name))
            if number == 3:
                assert shop.work_until_ended(self.worker(shop), shop.submit_task(self._task(name))) \
                    is JobState.SUCCEEDED

    def _task(self, name: str) -> Task:
        return PublishTask(checkpoint=name, destination=str(self.elsewhere))

    def task(self) -> Task:
        return self._task("g000004-s00000040")

    def _pointer(self) -> publishing.Pointer:
        found = publishing.read_pointer(Destination(str(self.elsewhere), lambda _: None))
        assert found is not None
        return found

    def wrong_now(self) -> list[str]:
        wrong = super().wrong_now()
        pointer = self._pointer()
        for name, record in pointer.files.items():
            if manifests.digest_file(self.elsewhere / pointer.folder / name) != record.blake3:
                wrong.append(f"{name} of {pointer.checkpoint} is pointed at, and is another one")
        for folder in (path for path in self.elsewhere.iterdir() if path.is_dir() and path.name[0] != "."):
            held = {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix != ".part"}
            if held != {"config.json": 2, "model.safetensors": 3000}:
                wrong.append(f"{folder.name} is there, and half: {held}")
        return wrong

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        pointed, there = self._pointer().checkpoint, len(list(self.elsewhere.iterdir()))
        return super().wrong_at_the_end(shop) + ([] if (pointed, there) == ("g000004-s00000040", 3) else [
            f"{pointed} is pointed at, and {there} things are there"])


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


ACTS: tuple[type[Act], ...] = (
    Snapshot, Backup, SecondBackup, PrunedBackup, Copy, Publish, Retain, Purge, Drop, Undelete, UndeleteSnapshot,
    Trigger, Generate, Evaluate)


def built(folder: Path, names: Sequence[str]) -> Iterator[tuple[Act, Path]]:
    """Each act of these names (of all without any), and the template of its place, from which each life is copied."""
    for kind in (each for each in ACTS if not names or each.__name__ in names):
        act = kind(folder / "place")
        act.build()
        template = act.place.rename(folder / kind.__name__)
        _warm_up(act, template)
        yield act, template


def _warm_up(act: Act, template: Path) -> None:
    """A life in this very process: what is made at its first use, each fork would make again."""
    shutil.copytree(template, act.place)
    shop = act.open()
    act.live(shop)
    shop.close()
    shutil.rmtree(act.place)
