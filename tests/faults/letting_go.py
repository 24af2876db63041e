"""Acts of the retention worker: what goes to the trash, and back, and for good."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

from tests import generations
from tests.faults.acts import Act, hear_of, take_snapshot
from tests.faults.workshops import Workshop
from trainq import checkpoints, files, ingest, manifests, objects, snapshots
from trainq.errors import DamageError
from trainq.jobs import JobState, Store
from trainq.messages import RetentionTask, Task, UndeleteTask
from trainq.retention import leftovers

# For the clock of these lives, which begins at 1000 s.
_LONG_AGO = -1e6


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


class Drop(Retain):
    """Content that no job names goes, what a job carries stays; and so do shards that no job needs."""

    settings = MappingProxyType({**Retain.settings, "TRAINQ_RETENTION_SHARD_DAYS": "1"})

    def furnish(self, shop: Workshop) -> None:
        super().furnish(shop)
        self._orphans = [ingest.data_path(self.home, shop.item(word).digest) for word in ("one", "two")]
        carried = shop.item("carried")
        shop.submit_items(carried)
        self._carried = ingest.data_path(self.home, carried.digest)
        for path in (*self._orphans, self._carried):
            os.utime(path, (_LONG_AGO, _LONG_AGO))
        for number in range(leftovers.SHARDS_KEPT + 2):
            shard = self.home.cache / f"shard-{number}"
            files.make_directory(shard)
            manifests.write(shard, "shard", {}, {})
            os.utime(shard / manifests.MANIFEST_NAME, (_LONG_AGO + number, _LONG_AGO + number))

    def sources(self) -> tuple[Path, ...]:
        return (self._carried.parent,)

    def wrong_at_the_end(self, shop: Workshop) -> list[str]:
        wrong = [f"{path.name} is still there" for path in self._orphans if path.exists()]
        wrong += ["something is still being dropped"] if shop.queries.dropping(9) else []
        shards = len(list(self.home.cache.iterdir()))
        return [*super().wrong_at_the_end(shop), *wrong,
                *([] if shards == leftovers.SHARDS_KEPT else [f"there are {shards} shards"])]


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
