"""Backups: what is in one, what is copied again, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.generations import publish
from tests.stories import PREPARED, TRAINED, Story
from trainq import backups, files, ingest, objects, restoring, suites
from trainq.backups import Created
from trainq.config import Home
from trainq.errors import DamageError, InputError, NotFoundError, StorageFullError
from trainq.jobs import Enclosed, EnclosedRole, JobKind, JobState, Store
from trainq.journal import Journal, Queries, proving
from trainq.journal.copying import JournalCopy
from trainq.messages import BackupTask, Cancel, Hello, Leased, Promote, SubmitTask, TakeLease


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A home with a trained, a waiting and a cancelled file, and three generations."""
    made = Story(tmp_path)
    home = made.configuration.home
    base = publish(home.checkpoints, 1, {"w": b"base"})
    publish(home.checkpoints, 2, {"w": os.urandom(1000)}, parent=base, base=base, job="train-1")
    publish(home.checkpoints, 3, {"w": b"not yet heard of"}, job="train-2")
    made.submit("trained")
    lease = made.lease(JobKind.PREPARE)
    assert lease is not None
    made.complete(lease, PREPARED)
    lease = made.lease(JobKind.TRAIN)
    assert lease is not None
    made.complete(lease, TRAINED)
    made.ask(Hello(request_id=made.id(), worker="trainer", session="s", generation=2, name="g000002-s00000020",
                   step=20))
    made.submit("waiting")
    made.ask(SubmitTask(request_id=made.id(), task=BackupTask(destination="/elsewhere")))
    taken = made.ask(TakeLease(request_id=made.id(), worker="snapshot", session="s", kinds=(JobKind.BACKUP,)))
    assert isinstance(taken, Leased)
    assert taken.lease is not None
    yield made
    made.journal.close()


def back_up(story: Story, store: Path, *, meanwhile: str = "") -> Created:
    copy = JournalCopy(story.journal, story.configuration.home.journal_copy)
    if meanwhile:
        story.submit(meanwhile)
    while not copy.is_done:
        copy.step()
    files.make_directory(store)
    made = backups.create(store, story.configuration.home, copy.path, "backup-1", created_at=1.0, created_by="test",
                          on_chunk=lambda _: None)
    copy.path.unlink()
    return made


def test_what_comes_of_it_is_the_home_as_it_was(story: Story, tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "restored"
    made = back_up(story, store, meanwhile="submitted while it is copied")
    assert made.backup.facts.seq == story.journal.head_seq + 1, "in it the backup itself has ended"
    assert made.backup.facts.checkpoint == "g000002-s00000020"
    assert backups.verify(store, made.backup.name, lambda _: None) == []
    home = Home(root)
    assert backups.restore(store, made.backup, root, lambda _: None) == made.backup.size_bytes
    assert sorted(path.name for path in home.checkpoints.iterdir()) == ["g000001-s00000010", "g000002-s00000020"]
    journal = Journal.open(home.journal)
    queries = Queries(journal)
    assert [(row.id, row.state) for row in queries.listing(kinds=[JobKind.TRAIN], states=[], before_number=None,
                                                           limit=9)] == [
        ("train-3", JobState.QUEUED), ("train-2", JobState.QUEUED), ("train-1", JobState.SUCCEEDED)]
    assert journal.journal_id == story.journal.journal_id
    assert queries.job("backup-1").state is JobState.SUCCEEDED
    assert story.queries.job("backup-1").state is JobState.RUNNING
    assert proving.prove(journal) == []
    for row in queries.listing(kinds=[JobKind.TRAIN], states=[], before_number=None, limit=9):
        assert ingest.is_stored(home, row.digest, row.size_bytes)
    journal.close()


def test_what_shards_are_made_with_is_in_it(story: Story, tmp_path: Path) -> None:
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    pack = story.item("rows to replay")
    story.complete(lease, msgspec.structs.replace(PREPARED, enclosed=(
        Enclosed(role=EnclosedRole.REPLAY, digest=pack.digest, size_bytes=pack.size_bytes),)))
    store, root = tmp_path / "store", tmp_path / "restored"
    backups.restore(store, back_up(story, store).backup, root, lambda _: None)
    assert ingest.is_stored(Home(root), pack.digest, pack.size_bytes)
    ingest.data_path(story.configuration.home, pack.digest).write_text("others, as many")
    with pytest.raises(DamageError):
        back_up(story, tmp_path / "another")


def test_the_champion_and_people_s_suites_are_in_it(story: Story, tmp_path: Path) -> None:
    here = story.configuration.home
    champion = publish(here.checkpoints, 7, {"w": b"best"})
    story.ask(Promote(request_id=story.id(), checkpoint=champion))
    for name in ("mine", "job-train-1"):
        suites.write(here.suites / name, [{"prompt": "2 + 2?", "completion": "4"}], kind="loss")
    store, root = tmp_path / "store", tmp_path / "restored"
    backups.restore(store, back_up(story, store).backup, root, lambda _: None)
    assert (Home(root).checkpoints / champion).is_dir()
    assert suites.names(Home(root).suites) == ["mine"], "what is made of files is made again"
    assert suites.load(Home(root).suites / "mine").digest == suites.load(here.suites / "mine").digest


def test_it_says_what_is_wrong_with_the_head_in_it(story: Story, tmp_path: Path) -> None:
    assert back_up(story, tmp_path / "store").backup.facts.marks == ()
    marked = publish(story.configuration.home.checkpoints, 4, {"w": b"4"}, job="train-2", marks=("bad",))
    story.ask(Hello(request_id=story.id(), worker="trainer", session="s", generation=4, name=marked, step=40))
    assert back_up(story, tmp_path / "store").backup.facts.marks == ("bad",)


def test_the_next_one_copies_only_what_is_new(story: Story, tmp_path: Path) -> None:
    store = tmp_path / "store"
    story.submit("more than the journal, which is copied whole, grows by" * 1000)
    first = back_up(story, store)
    story.submit("one more file")
    second = back_up(story, store)
    assert second.shared_bytes > 1000
    assert second.copied_bytes < first.copied_bytes
    assert [path.name for path in backups.list_backups(store)] == [second.backup.name, first.backup.name]
    assert backups.find(store).name == second.backup.name
    assert back_up(story, store).copied_bytes < second.copied_bytes + 1_000_000


def test_two_lines_may_reach_one_number_in_one_folder(story: Story, tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "other" / "home"
    first = back_up(story, store)
    story.submit("one future")
    one = back_up(story, store)
    backups.restore(store, first.backup, root, lambda _: None)
    other = Story(tmp_path / "other")
    assert other.state("backup-1") is JobState.SUCCEEDED, "it does not begin with another backup"
    while other.journal.head_seq < one.backup.facts.seq:
        other.submit(f"another future {other.journal.head_seq}", request_id=f"other-{other.journal.head_seq}")
    two = back_up(other, store)
    assert two.backup.facts.seq == one.backup.facts.seq
    assert two.backup.name != one.backup.name
    assert backups.find(store).name == two.backup.name, "the last one that was made"
    other.journal.close()


def test_a_file_of_a_job_that_has_ended_may_be_gone_and_one_to_be_trained_may_not(story: Story,
                                                                                  tmp_path: Path) -> None:
    home = story.configuration.home
    receipt = story.submit("cancelled")
    story.ask(Cancel(request_id=story.id(), job=receipt.job))
    digest = story.queries.job(receipt.job).digest
    ingest.data_path(home, digest).unlink()
    assert back_up(story, tmp_path / "store").backup.facts.lacking == [digest]
    ingest.data_path(home, story.queries.job("train-2").digest).unlink()
    with pytest.raises(DamageError, match="missing"):
        back_up(story, tmp_path / "other")
    back_up(story, tmp_path / "store")  # which has it from before


def test_damage_in_the_home_makes_no_backup(story: Story, tmp_path: Path) -> None:
    home = story.configuration.home
    (home.checkpoints / "g000002-s00000020" / "w").write_bytes(os.urandom(1000))
    with pytest.raises(DamageError, match="g000002-s00000020/w"):
        back_up(story, tmp_path / "store")
    assert backups.list_backups(tmp_path / "store") == []


def test_a_damaged_backup_makes_no_home(story: Story, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = back_up(story, store)
    record = made.backup.manifest.files["checkpoints/g000002-s00000020/w"]
    objects.path_of(store, record.blake3).write_bytes(b"x" * 1000)
    with pytest.raises(DamageError):
        backups.restore(store, made.backup, tmp_path / "restored", lambda _: None)
    assert not (tmp_path / "restored").exists()
    assert "g000002-s00000020/w" in backups.verify(store, made.backup.name, lambda _: None)[0]
    back_up(story, store)
    assert backups.verify(store, made.backup.name, lambda _: None) == [], "the next one has healed it"


def test_a_home_is_made_only_where_nothing_is(story: Story, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = back_up(story, store)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").touch()
    with pytest.raises(InputError, match="it exists already"):
        backups.restore(store, made.backup, taken, lambda _: None)
    assert [path.name for path in taken.iterdir()] == ["mine"]
    with pytest.raises(NotFoundError):
        backups.find(store, "b000009999")
    with pytest.raises(NotFoundError):
        backups.find(tmp_path / "nowhere")


def test_one_that_does_not_fit_is_not_begun(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainq.room.free_bytes", lambda _folder: 10)
    with pytest.raises(StorageFullError, match="no room left for the backup"):
        back_up(story, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_restored_generation_is_the_old_one_under_a_new_number(story: Story) -> None:
    home = story.configuration.home
    source = restoring.find(home, Store.CHECKPOINTS, "g000001-s00000010")
    facts = restoring.publish_again(home, source, by="restore-1", above=7, journal_seq=9, on_chunk=lambda _: None)
    assert (facts.name, facts.parent) == ("g000008-s00000010", "g000003-s00000030")
    assert (home.checkpoints / facts.name / "w").read_bytes() == b"base"
    (home.checkpoints / "g000001-s00000010" / "w").write_bytes(b"b4se")
    with pytest.raises(DamageError):
        restoring.publish_again(home, source, by="restore-2", above=8, journal_seq=9, on_chunk=lambda _: None)
    assert not list(home.checkpoints.glob("g000009*"))
    with pytest.raises(NotFoundError):
        restoring.find(home, Store.CHECKPOINTS, "g000042-s00000010")
