"""What a checkpoint says of its jobs, settings and versions goes with the weights: on, back, and out again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from tests.unit.trainq.ml.tiny import LENGTHS, SETTINGS, MakeShard, Script, job_over, start, train
from trainq import cards, checkpoints, files, restoring
from trainq.checkpoints import CheckpointFacts, JobRecord, Verified
from trainq.config import Home, LoraSettings
from trainq.errors import DamageError
from trainq.jobs import Store
from trainq.ml import checkpointing
from trainq.ml.training import Job, Wish

pytestmark = pytest.mark.slow  # real jobs are trained


def head(home: Home) -> Verified:
    found, _ = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    return found


def named(job: Job, name: str) -> Job:
    return dataclasses.replace(job, name=name, digest=f"{name}-digest")


def card(home: Home) -> bytes:
    return (head(home).path / cards.NAME).read_bytes()


ONE = JobRecord(job="job-1", name="one", digest="one-digest", number=1)
# Seven rows in two epochs of three steps each.
TWO = JobRecord(job="job-2", name="two", digest="two-digest", number=2, step=6, rows_seen=14,
                tokens_seen=2 * sum(LENGTHS))


@pytest.fixture
def jobs(make_shard: MakeShard) -> tuple[Job, Job]:
    return (named(job_over(make_shard(LENGTHS, "first"), "job-1"), "one"),
            named(job_over(make_shard(LENGTHS, "second!"), "job-2"), "two"))


def test_a_checkpoint_names_its_jobs_and_how_they_were_trained(tiny_model: Path, home: Home,
                                                               jobs: tuple[Job, Job]) -> None:
    line = start(tiny_model, home)
    assert head(home).facts.jobs == []
    assert head(home).facts.versions.keys() == {"trainq", "python", "torch", "transformers", "accelerate"}
    for job in jobs:
        train(line, job, home)
    facts = head(home).facts
    assert facts.jobs == [ONE, TWO]
    assert facts.settings == msgspec.to_builtins(SETTINGS)
    assert card(home) == cards.text(facts)


@pytest.mark.parametrize("at", [1, 4])
def test_stopped_and_resumed_the_record_is_that_of_an_undisturbed_run(tiny_model: Path, home: Home, tmp_path: Path,
                                                                      jobs: tuple[Job, Job], at: int) -> None:
    calm = Home(tmp_path / "calm")
    for folder in calm.folders():
        files.make_directory(folder)
    line = start(tiny_model, calm)
    for job in jobs:
        train(line, job, calm)
    line = start(tiny_model, home)
    train(line, jobs[0], home)
    train(line, jobs[1], home, Script(at=at))
    train(checkpointing.restore(head(home)), jobs[1], home)

    def without_numbers(facts: CheckpointFacts) -> bytes:
        return cards.text(msgspec.structs.replace(facts, generation=0, parent=""))

    assert head(home).facts.generation > head(calm).facts.generation
    assert without_numbers(head(home).facts) == without_numbers(head(calm).facts)


def test_what_is_taken_back_is_out_of_the_record(tiny_model: Path, home: Home, jobs: tuple[Job, Job]) -> None:
    line = start(tiny_model, home)
    train(line, jobs[0], home)
    train(line, jobs[1], home, Script(at=2))  # a stop publishes
    assert head(home).facts.jobs == [ONE, TWO]
    train(line, jobs[1], home, Script(at=3, what=Wish.CANCEL))
    checkpointing.take_back(line, home)
    assert head(home).facts.jobs == [ONE]
    assert card(home) == cards.text(head(home).facts)


def test_a_restored_generation_has_a_card_of_its_own(tiny_model: Path, home: Home, jobs: tuple[Job, Job]) -> None:
    line = start(tiny_model, home)
    train(line, jobs[0], home)
    early = head(home)
    train(line, jobs[1], home)
    source = restoring.find(home, Store.CHECKPOINTS, early.path.name)
    facts = restoring.publish_again(home, source, by="restore-1", above=3, journal_seq=9, on_chunk=lambda _: None)
    assert head(home).facts == facts
    assert facts.jobs == [ONE]
    assert card(home) == cards.text(facts) != cards.text(early.facts)


def test_a_damaged_card_is_damage(tiny_model: Path, home: Home, jobs: tuple[Job, Job]) -> None:
    line = start(tiny_model, home)
    train(line, jobs[0], home)
    source = restoring.find(home, Store.CHECKPOINTS, head(home).path.name)
    (head(home).path / cards.NAME).write_bytes(b"another")
    with pytest.raises(DamageError, match=cards.NAME):
        restoring.publish_again(home, source, by="restore-1", above=3, journal_seq=9, on_chunk=lambda _: None)


def test_an_adapter_s_settings_are_in_it(tiny_model: Path, home: Home, jobs: tuple[Job, Job]) -> None:
    line = start(tiny_model, home, LoraSettings(rank=2, alpha=4, target_modules=("q_proj",)))
    train(line, jobs[0], home)
    facts = head(home).facts
    assert facts.settings["lora"] == {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj"]}
    assert "peft" in facts.versions
    assert b"| lora.rank | 2 |" in card(home)
