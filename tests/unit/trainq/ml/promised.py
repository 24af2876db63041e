"""A small home with a history: three files trained (one interrupted and resumed), one rejected, one cancelled half way;
one is trained with rows of another beside its own.

Made with the library as the services do it, so that what reads a home from outside has something true to read.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec

from tests.unit.trainq.ml.tiny import SEED, Script, save_model
from trainq import checkpoints, enclosures, files, ingest, jobs, preparing, rehearsal
from trainq.config import DataSettings, GateSettings, Home, TrainSettings
from trainq.journal import Journal
from trainq.messages import TrainSpec
from trainq.ml import checkpointing, determinism, line, model, training
from trainq.ml.line import ModelLine
from trainq.ml.training import Job, Wish
from trainq.preparing import Prepared, PrepareProgress
from trainq.textcodec import TextCodec

CONTEXT_TOKENS = 64
PLAIN, NO_GATE = DataSettings(), GateSettings.none()
SETTINGS = TrainSettings(epochs=2, batch_rows=3, micro_batch_rows=2, learning_rate=1e-2, warmup_steps=4, threads=1,
                         seed=SEED)


def rows(count: int, word: str) -> bytes:
    return b"".join(json.dumps({"prompt": f"{word} {number}", "completion": f"is {number * 7 % 10}"}).encode() + b"\n"
                    for number in range(count))


class Story:
    """Writes a home's journal, data, cache and checkpoints as the services would."""

    def __init__(self, home: Home, model_folder: Path) -> None:
        self.home, self.model_folder = home, model_folder
        for folder in home.folders():
            files.make_directory(folder)
        self.journal = Journal.open(home.journal)
        self.receipts: list[dict[str, str]] = []
        self.line: ModelLine = line.begin(str(model_folder), SEED)
        checkpointing.publish(self.line, home, "initial")
        self._numbers = 0
        self._settings: dict[int, TrainSettings] = {}
        self._specs: dict[int, TrainSpec] = {}

    def record(self, *events: jobs.AnyEvent) -> int:
        with self.journal.transaction():
            for event in events:
                self.journal.append(event, 1.5)
        return self.journal.head_seq

    def submit(self, content: bytes, settings: TrainSettings = SETTINGS, *, line_seed: int | None = None,
               data: DataSettings = PLAIN, gate: GateSettings = NO_GATE) -> int:
        self._numbers += 1
        number = self._numbers
        source = self.home.inbox / f"{number}.jsonl"
        source.write_bytes(content)
        stored = ingest.store_file(self.home, source)
        source.unlink()
        spec = TrainSpec(model=str(self.model_folder), data=data, train=settings, line_seed=line_seed,
                         gate=gate)
        self._settings[number] = settings
        self._specs[number] = spec
        self.record(jobs.JobSubmitted(
            job=f"train-{number}", prepare=f"prepare-{number}", number=number, name=source.name,
            request_id=f"r{number}", request_digest="0" * 64, digest=stored.digest, size_bytes=stored.size_bytes,
            priority=jobs.Priority.NORMAL, origin=jobs.Origin.PEOPLE, spec=msgspec.to_builtins(spec)))
        self.receipts.append({"request_id": f"r{number}", "digest": stored.digest, "job": f"train-{number}"})
        return number

    def submit_again(self, number: int) -> None:
        self.record(jobs.DuplicateSubmitted(job=f"train-{number}", request_id=f"again-{number}",
                                            request_digest="1" * 64))
        self.receipts.append({**self.receipts[number - 1], "request_id": f"again-{number}"})

    def lease(self, job: str) -> int:
        return self.record(jobs.LeaseGranted(job=job, worker="w", session="s", attempt=1))

    def prepare(self, number: int, replays: Prepared | None = None) -> Prepared | None:
        """Prepare a job; with ``replays`` rows of that shard are replayed."""
        def beat(_: PrepareProgress) -> None:
            pass

        job = f"train-{number}"
        self.lease(f"prepare-{number}")
        spec, codec = self._specs[number], TextCodec.load(self.model_folder)
        enclosed: tuple[jobs.Enclosed, ...] = ()
        if replays is not None:
            drawn = rehearsal.draw([rehearsal.Source("train-2", self.home.cache / replays.shard)], codec.digest, 4,
                                   b"seed", lambda *_: True, lambda: None)
            assert drawn is not None
            pack = ingest.store_stream(self.home, io.BytesIO(drawn.content), "pack")
            enclosed = (jobs.Enclosed(role=jobs.EnclosedRole.REPLAY, digest=pack.digest, size_bytes=pack.size_bytes,
                                      sources=drawn.sources),)
        outcome = preparing.prepare(
            ingest.data_path(self.home, self.receipts[number - 1]["digest"]), codec, spec.data,
            CONTEXT_TOKENS, self.home.cache, self.home.rejected, job, beat,
            enclosures.inputs_of(self.home, spec.gate, enclosed))
        report = msgspec.to_builtins(outcome.report)
        ended = jobs.JobSucceeded(job=f"prepare-{number}", result={})
        if not isinstance(outcome, Prepared):
            self.record(ended, jobs.JobRejected(job=job, reason=outcome.reason, report=report))
            return None
        self.record(ended, jobs.JobPrepared(job=job, shard=outcome.shard, shard_digest=outcome.digest,
                                            rows=outcome.report.shard_rows, tokens=outcome.report.shard_tokens,
                                            report=report, enclosed=enclosed))
        return outcome

    def train(self, number: int, prepared: Prepared, *, script: Script | None = None) -> None:
        """One lease; without ``script`` to the end and its success, else given back (or left to be cancelled)."""
        token = self.lease(f"train-{number}")
        job = Job(id=f"train-{number}", token=token, shard=self.home.cache / prepared.shard,
                  shard_digest=prepared.digest, settings=self._settings[number], journal_seq=token)
        training.train(self.line, job, self.home, script or Script())
        if script is None:
            self.succeed(number)

    def succeed(self, number: int) -> None:
        facts = self.line.facts
        self.record(
            jobs.CheckpointPublished(job=f"train-{number}", generation=facts.generation, name=facts.name,
                                     step=facts.step, job_step=facts.cursor.job_step, done=True, reason="job_end"),
            jobs.JobSucceeded(job=f"train-{number}", result={"generation": facts.generation}))

    def restart(self) -> None:
        """The training process dies and a new one restores the head."""
        found, _ = checkpoints.newest_verified(self.home.checkpoints)
        assert found is not None
        self.line = checkpointing.restore(found)


def tell(root: Path) -> Story:
    """The story in ``root/home``, with its model in ``root/model``; receipts are in ``root/receipts.jsonl``."""
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(1)
    root.mkdir(parents=True, exist_ok=True)
    save_model(root / "model")
    story = Story(Home(root / "home"), root / "model")
    gate = GateSettings()
    first = story.submit(rows(7, "red"), data=DataSettings(replay_fraction=0.3), gate=gate)
    second = story.submit(rows(5, "blue"), gate=gate)
    bad, unwanted, last = story.submit(b"{}\n"), story.submit(rows(6, "grey")), story.submit(rows(4, "tall"))
    story.submit_again(second)
    prepared = {number: story.prepare(number) for number in (second, bad, unwanted, last)}
    prepared[first] = story.prepare(first, replays=prepared[second])
    _train_with_a_death(story, second, prepared[second])
    one, grey, tall = prepared[first], prepared[unwanted], prepared[last]
    assert one is not None
    assert grey is not None
    assert tall is not None
    story.train(first, one)
    story.train(unwanted, grey, script=Script(at=2))
    story.line, _ = checkpointing.take_back(story.line, story.home)
    story.record(jobs.CancelRequested(job=f"train-{unwanted}", reason="test"),
                 jobs.JobCancelled(job=f"train-{unwanted}", reason="test"))
    story.train(last, tall)
    story.journal.close()
    (root / "receipts.jsonl").write_text("".join(json.dumps(receipt) + "\n" for receipt in story.receipts))
    return story


def _train_with_a_death(story: Story, number: int, prepared: Prepared | None) -> None:
    assert prepared is not None
    story.train(number, prepared, script=Script(at=1))
    story.record(jobs.LeaseEnded(job=f"train-{number}", reason="it stops"))
    story.restart()
    story.train(number, prepared, script=Script(at=2, what=Wish.CANCEL))  # a step that is lost with the process
    story.record(jobs.LeaseEnded(job=f"train-{number}", reason="killed"))
    story.restart()
    story.train(number, prepared)
