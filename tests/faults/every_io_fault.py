"""Fail each durable operation of each act in turn: ``every_io_fault.py FOLDER [STRIDE [ACT ...]]``.

For each act one undisturbed fork counts its durable operations. Then, for each of them (each ``STRIDE``-th), each error
and both once and for ever, a fork acts under the fault, and when the fault has ended acts again as its next life would.
One JSON object on stdout: ``faults`` by act, and ``wrong``, which must be empty.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from services.preparer.gathering import Gatherer
from services.watcher import inbox
from tests.unit.trainq.ml.tiny import SETTINGS, job_over, save_model, start, train
from trainq import builtin, checkpoints, diskfaults, files, ingest, jobs, locks, merged
from trainq.config import DataSettings, GateSettings, Home, LoraSettings, TrainSettings
from trainq.errors import StorageError, StorageFullError
from trainq.journal import Journal
from trainq.journal.proving import prove
from trainq.logs import null_log
from trainq.messages import Lease, TrainedShard, TrainSpec
from trainq.ml import checkpointing, consolidating, determinism, model, writing
from trainq.ml.training import Job
from trainq.preparing import Inputs, Prepared, prepare
from trainq.shards import Shard, ShardWriter
from trainq.textcodec import TextCodec

CONTENT = b'{"text": "abc"}\n' * 2000
FULL = frozenset({"ENOSPC", "EDQUOT"})
EVENTS = 4


class Act(ABC):
    """``do`` in ``home`` is one life; whatever came before, it ends with ``holds``. ``codec`` is for the shard."""

    def __init__(self, home: Home, codec: TextCodec) -> None:
        self.home, self.codec = home, codec

    def begin(self) -> None:
        for folder in self.home.folders():
            files.make_directory(folder)
        (self.home.root / "source").write_bytes(CONTENT)

    @abstractmethod
    def do(self) -> None:
        """The life."""

    @abstractmethod
    def holds(self) -> bool:
        """Whether all that it is for is there."""

    def is_acknowledged_kept(self) -> bool:
        """Nothing that was acknowledged, under the fault too, is missing."""
        return True


class Store(Act):
    def do(self) -> None:
        self.stored = ingest.store_file(self.home, self.home.root / "source")

    def holds(self) -> bool:
        return ingest.data_path(self.home, self.stored.digest).read_bytes() == CONTENT


class Prepare(Act):
    def do(self) -> None:
        outcome = prepare(self.home.root / "source", self.codec, DataSettings(), 256, self.home.cache,
                          self.home.rejected, "j", lambda _: None)
        assert isinstance(outcome, Prepared)
        self.shard = outcome.shard

    def holds(self) -> bool:
        with Shard.open(self.home.cache / self.shard, verify=True):
            return True


class Gather(Act):
    """A file with rows of an earlier one beside its own, and a suite that it must not hold."""

    def begin(self) -> None:
        super().begin()
        earlier = self.home.root / "earlier"
        earlier.write_bytes(b"".join(b'{"text": "earlier %d"}\n' % number for number in range(20)))
        outcome = prepare(earlier, self.codec, DataSettings(), 256, self.home.cache, self.home.rejected, "e",
                          lambda _: None, Inputs(gate=GateSettings()))
        assert isinstance(outcome, Prepared)
        self.trained = [TrainedShard(job="train-1", digest="0" * 64, shard=outcome.shard)]
        suite = self.home.suites / "exam" / "test.jsonl"
        files.make_directory(suite.parent)
        suite.write_bytes(b'{"text": "exam"}\n')

    def do(self) -> None:
        stored = ingest.store_file(self.home, self.home.root / "source")
        lease = Lease(job="prepare-2", kind=jobs.JobKind.PREPARE, token=1, attempt=1, name="f", digest=stored.digest,
                      size_bytes=stored.size_bytes, seq=1, lease_seconds=9.0, heartbeat_seconds=1.0,
                      spec=TrainSpec(model="", data=DataSettings(replay_fraction=1.0), train=TrainSettings(),
                                     gate=GateSettings()))
        self.enclosed, inputs = Gatherer(self.home, null_log()).gather(lease, self.codec, lambda _: None,
                                                                       lambda: self.trained)
        outcome = prepare(ingest.data_path(self.home, stored.digest), self.codec, lease.spec.data, 256,
                          self.home.cache, self.home.rejected, "j", lambda _: None, inputs)
        assert isinstance(outcome, Prepared)
        assert outcome.verdict is not None
        self.shard = outcome.shard

    def holds(self) -> bool:
        with Shard.open(self.home.cache / self.shard, verify=True) as shard:
            return shard.rows == 2 and len(self.enclosed) == 2 and all(
                ingest.is_stored(self.home, each.digest, each.size_bytes) for each in self.enclosed)


class Claim(Act):
    """One file in the inbox: it is there, or claimed, and never both nor neither."""

    def begin(self) -> None:
        super().begin()
        (self.home.inbox / "a.jsonl").write_bytes(CONTENT)

    def do(self) -> None:
        for entry in inbox.sweep(self.home):
            inbox.claim(self.home, entry)

    def holds(self) -> bool:
        return [path.read_bytes() for path in self.home.claimed.rglob("a.jsonl")] == [CONTENT]

    def is_acknowledged_kept(self) -> bool:
        return len(list(self.home.inbox.rglob("a.jsonl"))) == 1


class Remove(Act):
    def begin(self) -> None:
        super().begin()
        (self.home.cache / "old" / "sub").mkdir(parents=True)
        (self.home.cache / "old" / "sub" / "file").write_bytes(b"1")

    def do(self) -> None:
        files.remove_file(self.home.root / "source")
        files.remove_tree(self.home.cache / "old")

    def holds(self) -> bool:
        return not (self.home.root / "source").exists() and not (self.home.cache / "old").exists()


class Publish(Act):
    """Pictures, links, growing files and locks: all that is left of trainq.files."""

    def do(self) -> None:
        root = self.home.root
        files.write_file(root / "written", CONTENT)
        files.replace_file(root / "picture", CONTENT)
        files.replace_link(root / "link", "written")
        locks.acquire_lock(root / "lock", "test").release()
        growing = files.open_growing(root / "growing", 0)
        try:
            growing.append(CONTENT)
            growing.sync()
        finally:
            growing.close()

    def holds(self) -> bool:
        names = ("written", "picture", "link", "growing")
        return all((self.home.root / name).read_bytes() == CONTENT for name in names)


class Append(Act):
    """Events, one a transaction. After a full disk the journal is used on, after any other failure opened anew."""

    acknowledged = 0

    def do(self) -> None:
        journal = Journal.open(self.home.journal)
        # Not acknowledged, and there all the same: a client asks again and is told. Lost: never.
        assert journal.head_seq >= self.acknowledged
        try:
            for number in range(journal.head_seq + 1, EVENTS + 1):
                try:
                    self._append(journal, number)
                except StorageFullError:
                    assert journal.head_seq == number - 1
                    self._append(journal, number)
        finally:
            journal.close()

    def _append(self, journal: Journal, number: int) -> None:
        with journal.transaction():
            journal.append(submitted(number), 1.0)
        self.acknowledged = number

    def _is_whole(self, least: int) -> bool:
        journal = Journal.open(self.home.journal)
        numbers = [entry.event.number for entry in journal.replay(0, 100) if isinstance(entry.event, jobs.JobSubmitted)]
        whole = not prove(journal) and len(numbers) >= least and numbers == list(range(1, len(numbers) + 1))
        journal.close()
        return whole

    def holds(self) -> bool:
        return self._is_whole(EVENTS)

    def is_acknowledged_kept(self) -> bool:
        return not self.home.journal.exists() or self._is_whole(self.acknowledged)


class Write(Append):
    """As the broker writes: requests that are each done whole, so many that SQLite writes before the commit.

    What fails then must end the transaction; it must not be taken for a request that is to be done again.
    """

    def _append(self, journal: Journal, number: int) -> None:
        journal.connection.execute("PRAGMA cache_size=4").fetchall()

        def work() -> None:
            for request in range(number, EVENTS + 1):
                with journal.atomic():
                    journal.append(submitted(request, spec={"much": "x" * 9000}), 1.0)

        if journal.head_seq == number - 1:
            journal.write(work)
            self.acknowledged = EVENTS


def submitted(number: int, spec: dict[str, str] | None = None) -> jobs.JobSubmitted:
    return jobs.JobSubmitted(
        job=f"train-{number}", prepare=f"prepare-{number}", number=number, name=f"{number}.jsonl",
        request_id=f"r{number}", request_digest="0" * 64, digest=f"{number:064x}", size_bytes=1,
        priority=jobs.Priority.NORMAL, origin=jobs.Origin.PEOPLE, spec=spec or {})


class Train(Act):
    """A training process's work: the head restored, two jobs' steps trained, with metrics, ledger and generations."""

    def begin(self) -> None:
        shutil.copytree(self.home.root.parent / "trained", self.home.root, symlinks=True)

    def do(self) -> None:
        files.sweep_temporaries(self.home.checkpoints, self.home.root)
        found, damaged = checkpoints.newest_verified(self.home.checkpoints)
        assert found is not None
        assert not damaged, damaged
        train(checkpointing.restore(found), make_job(self.home.root.parent), self.home)
        found, _ = checkpoints.newest_verified(self.home.checkpoints)
        assert found is not None
        writing.point_current_at(self.home, found.facts)

    def holds(self) -> bool:
        found, damaged = checkpoints.newest_verified(self.home.checkpoints)
        assert found is not None
        steps = len((self.home.metrics / "job-1").with_suffix(".jsonl").read_bytes().splitlines())
        return (not damaged and found.facts.cursor.done and steps == found.facts.cursor.steps_planned
                and self.home.current.resolve() == found.path.resolve())

    def is_acknowledged_kept(self) -> bool:
        """What was published verifies, and it is the head."""
        found, damaged = checkpoints.newest_verified(self.home.checkpoints)
        return found is not None and not damaged


class Merge(Act):
    """A consolidation's child: weights and adapter read, merged, written, read back, compared and published."""

    def begin(self) -> None:
        shutil.copytree(self.home.root.parent / "adapted", self.home.root, symlinks=True)

    def do(self) -> None:
        files.make_directory(self.home.merged)
        files.sweep_temporaries(self.home.merged)
        consolidating.consolidate(self.home, self.source, rows=2, max_logit_delta=0.001)

    @property
    def source(self) -> str:
        return checkpoints.list_generations(self.home.checkpoints)[0].name

    def holds(self) -> bool:
        return merged.verify(self.home, self.source).source == self.source

    def is_acknowledged_kept(self) -> bool:
        """The line is as it was, and in ``merged/`` is nothing, or something whole."""
        found, damaged = checkpoints.newest_verified(self.home.checkpoints)
        return (found is not None and not damaged and found.facts.name == self.source
                and (not merged.path_of(self.home, self.source).exists() or self.holds()))


def make_job(folder: Path) -> Job:
    """Four steps with a generation each, over a shard that is made once."""
    path = folder / "job-1"
    if not path.exists():
        with files.publish_directory(path) as made, ShardWriter(made, key="job-1", context_tokens=64) as writer:
            for row, length in enumerate((5, 9, 3, 12)):
                writer.append([(row * 31 + at * at * 7) % 262 for at in range(length)],
                              [at > 0 for at in range(length)], bytes([row]) * 32, row + 1)
            writer.seal(b"{}")
    return job_over(path, "job-1", msgspec.structs.replace(SETTINGS, checkpoint_steps=2))


def make_lines(folder: Path) -> None:
    """The homes that :class:`Train` and :class:`Merge` begin with: a first generation; an adapter that has learned."""
    torch.set_num_threads(1)
    model.silence_libraries()
    determinism.enforce()
    save_model(folder / "model")
    trained, adapted = Home(folder / "trained"), Home(folder / "adapted")
    for each in (*trained.folders(), *adapted.folders()):
        files.make_directory(each)
    start(folder / "model", trained)
    job = make_job(folder)
    shutil.copytree(job.shard, adapted.cache / job.shard.name)
    train(start(folder / "model", adapted, LoraSettings(rank=2, alpha=4)), job, adapted)


ACTS: tuple[type[Act], ...] = (Store, Prepare, Gather, Claim, Remove, Publish, Append, Write, Train, Merge)


def in_a_fork(work: Callable[[], None]) -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def count(act: Act) -> int:
    act.begin()
    diskfaults.count()
    act.do()
    reached, _ = diskfaults.disarm()
    assert act.holds()
    return reached


def under_a_fault(act: Act, error: str, at: int, *, for_ever: bool) -> None:
    act.begin()
    diskfaults.arm(error, at, for_ever=for_ever)
    failure: StorageError | StorageFullError | None = None
    try:
        act.do()
    except (StorageError, StorageFullError) as caught:
        failure = caught
    _, failed = diskfaults.disarm()
    assert failed, "the fault was not met"
    if failure is None:
        assert act.holds(), "it said that all was well"
    else:
        assert failure.mend or isinstance(failure, inbox.CannotClaimError), failure
        assert str(act.home.root) in str(failure) or isinstance(failure, inbox.CannotClaimError), failure
        is_full = isinstance(failure, StorageFullError)
        assert is_full == (error in FULL) or isinstance(act, Append | Claim), failure
    assert act.is_acknowledged_kept() or act.holds(), "something is lost"
    act.do()
    assert act.holds(), "the fault has ended, and it still fails"


def campaign(folder: Path, stride: int, names: list[str]) -> dict[str, object]:
    codec = TextCodec.load(builtin.folder())
    make_lines(folder)
    faults: dict[str, int] = {}
    wrong: list[str] = []
    drawn = 0
    for kind in (each for each in ACTS if not names or each.__name__ in names):
        counted = Home(folder / "count")
        reader, writer = os.pipe()
        assert in_a_fork(lambda: os.write(writer, b"%d" % count(kind(counted, codec))) and None)  # noqa: B023 - it is called at once
        total = int(os.read(reader, 16))
        os.close(reader)
        os.close(writer)
        shutil.rmtree(counted.root)
        faults[kind.__name__] = 0
        for at in range(1, total + 1):
            for error in diskfaults.ERRORS:
                for for_ever in (False, True):
                    drawn += 1
                    if drawn % stride:
                        continue
                    home = Home(folder / "home")
                    act = kind(home, codec)
                    faults[kind.__name__] += 1
                    fine = in_a_fork(lambda: under_a_fault(act, error, at, for_ever=for_ever))  # noqa: B023 - as above
                    files.sweep_temporaries(*(path for path in [home.root, *home.root.rglob("*")] if path.is_dir()))
                    left = list(home.root.rglob(".tmp-*"))
                    if not fine or left:
                        wrong.append(f"{kind.__name__} {error} at {at} of {total}, for ever: {for_ever}, left: {left}")
                    shutil.rmtree(home.root)
    return {"faults": faults, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(campaign(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1, sys.argv[3:]), indent=1))
