"""What an act of maintenance is, for the campaigns, and what its home is furnished with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from services.retention.app import Retention
from services.snapshot.app import Snapshotter
from tests import generations
from tests.faults.workshops import Workshop, left_over
from tests.stories import TRAINED
from trainq import checkpoints, files, manifests, snapshots
from trainq.config import Home
from trainq.jobs import JobKind, JobState
from trainq.journal import proving
from trainq.messages import Hello, Task, TaskLease
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
