"""Random operations and crashes: the projections always equal the fold of the events, and nothing acknowledged goes."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import apsw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trainq import jobs
from trainq.errors import NotFoundError, TransitionError
from trainq.jobs import JobKind
from trainq.journal import Journal, schema
from trainq.journal.projections import Fold
from trainq.journal.store import GENESIS, chain

TABLES = ("jobs", "requests", "dependencies", "counts", "line", "damaged", "forks", "trained", "pins", "removals",
          "dropped", "schedules", "slots", "suites", "scores", "judgements", "champions", "levels", "level_suites",
          "judged_levels")
NUMBERS = st.integers(1, 12)
JOBS = st.builds(lambda kind, number: f"{kind}-{number}", st.sampled_from(list(JobKind)), NUMBERS)
EVENTS = st.one_of(
    st.builds(jobs.JobPrepared, job=JOBS, shard=st.just("s"), shard_digest=st.just("d"), rows=st.just(1),
              tokens=st.just(2), report=st.just({}), enclosed=st.lists(
                  st.builds(jobs.Enclosed, role=st.sampled_from(jobs.EnclosedRole), size_bytes=st.just(1),
                            digest=st.sampled_from(["a" * 64, "b" * 64]), sources=st.just({"train-1": 1})),
                  max_size=2, unique_by=lambda each: each.role).map(tuple)),
    st.builds(jobs.PreparationReopened, job=JOBS, reason=st.just("r")),
    st.builds(jobs.JobRejected, job=JOBS, reason=st.just("r"), report=st.just({})),
    st.builds(jobs.HoldPlaced, job=JOBS, reason=st.just("r")),
    st.builds(jobs.HoldLifted, job=JOBS),
    st.builds(jobs.LeaseGranted, job=JOBS, worker=st.just("w"), session=st.just("s"), attempt=st.integers(1, 3)),
    st.builds(jobs.LeaseEnded, job=JOBS, reason=st.just("r"), died=st.booleans(),
              step=st.none() | st.integers(0, 2)),
    st.builds(jobs.AttemptFailed, job=JOBS, reason=st.just("r"), retry_at=st.floats(0, 10), counts=st.booleans()),
    st.builds(jobs.FingerprintChanged, job=JOBS, before=st.just({"a": "b"}), after=st.just({})),
    st.builds(jobs.JobUncovered, job=JOBS, generation=st.integers(1, 9), reason=st.just("r")),
    st.builds(jobs.JobRetried, job=JOBS),
    st.builds(jobs.JobTakenOut, job=JOBS, generation=st.integers(1, 9), reason=st.just("r")),
    st.builds(jobs.JobReinstated, job=JOBS, generation=st.integers(1, 9), reason=st.just("r")),
    st.builds(jobs.LineRestored, generation=st.integers(1, 9), name=st.just("g"), step=st.integers(0, 9),
              source=st.integers(0, 9), by=st.just("restore-1")),
    st.builds(jobs.LineRebased, generation=st.integers(1, 9), name=st.just("g"), step=st.integers(0, 9),
              source=st.just("g"), by=st.just("rebase-1"), lora=st.just({}), seed=st.just(0), threads=st.just(1)),
    st.builds(jobs.DataDropped, digests=st.lists(st.sampled_from("ab")).map(tuple), reason=st.just("r")),
    st.builds(jobs.DataGone, digests=st.lists(st.sampled_from("ab")).map(tuple)),
    st.builds(jobs.InboxCounted, waiting=st.integers(0, 2)),
    st.builds(jobs.AgeingSet, ageing_jobs=st.integers(0, 3)),
    st.builds(jobs.QueueHeld, reason=st.just("r"), seconds=st.just(1.0), failures_in_a_row=st.booleans()),
    st.just(jobs.QueueHoldLifted()),
    st.builds(jobs.CheckpointDamaged, generation=st.integers(1, 3), name=st.just("g"), reason=st.just("r")),
    st.builds(jobs.HeadAdopted, generation=st.integers(1, 9), name=st.just("g"), step=st.integers(0, 9)),
    st.builds(jobs.CheckpointPublished, job=JOBS, generation=st.integers(1, 9), name=st.just("g"),
              step=st.integers(0, 9), job_step=st.integers(0, 9), done=st.booleans(), reason=st.just("r")),
    st.builds(jobs.CancelRequested, job=JOBS, reason=st.just("r"), keep=st.booleans()),
    st.builds(jobs.JobSucceeded, job=JOBS, result=st.builds(lambda n: {"generation": n}, st.integers(1, 9))),
    st.builds(jobs.JobFailed, job=JOBS, reason=st.just("r")),
    st.builds(jobs.JobQuarantined, job=JOBS, reason=st.just("r")),
    st.builds(jobs.JobCancelled, job=JOBS, reason=st.just("r")),
    st.builds(jobs.QueuePaused, reason=st.just("r"), seconds=st.sampled_from([0.0, 60.0])),
    st.builds(jobs.QueueResumed, after_yield=st.booleans()),
    st.builds(jobs.QueueDrained, reason=st.just("r")),
    st.builds(jobs.TrainerStopped, session=st.just("s"), reason=st.just("r")),
    st.just(jobs.CheckpointRequested()),
    st.builds(jobs.EffectDecided, job=JOBS, kind=st.sampled_from(jobs.EffectKind), effective_step=st.integers(0, 3),
              value=st.integers(0, 9), reason=st.just("r")),
    st.builds(jobs.CopyPinned, store=st.sampled_from(jobs.Store), name=st.sampled_from("ab"), reason=st.just("r")),
    st.builds(jobs.ScheduleSet, name=st.sampled_from("ab"), rule=st.sampled_from("xy"), slot=st.integers(0, 9)),
    st.builds(jobs.ScheduleFired, name=st.sampled_from("ab"), slot=st.integers(0, 9), job=st.just("snapshot-1")),
    st.builds(jobs.ScheduleSkipped, name=st.sampled_from("ab"), slot=st.integers(0, 9), reason=st.just("r")),
    st.builds(jobs.CopyUnpinned, store=st.sampled_from(jobs.Store), name=st.sampled_from("ab")),
    st.builds(jobs.RemovalDecided, store=st.sampled_from(jobs.Store), name=st.sampled_from("ab"),
              size_bytes=st.integers(0, 9), reason=st.just("r")),
    st.builds(jobs.RemovalUndone, removal=st.integers(1, 40), reason=st.just("r")),
    st.builds(jobs.RemovalPurged, removal=st.integers(1, 40)),
    st.builds(jobs.SuiteLocked, suite=st.sampled_from("ab"), digest=st.sampled_from("xy"), reason=st.just("r")),
    st.builds(jobs.SuiteScored, checkpoint=st.sampled_from("gh"), weights=st.just("w"), suite=st.sampled_from("ab"),
              suite_digest=st.just("d"), kind=st.just("loss"), scorer=st.just(""), n=st.integers(1, 9),
              mean=st.floats(0, 9), low=st.just(0.0), high=st.just(9.0), confidence=st.just(0.95), seed=st.just(0),
              evaluation=st.just("e"), by=st.just("evaluate-1"), truncated=st.integers(0, 9),
              left_out=st.integers(0, 9), credit=st.none() | st.just(0.5)),
    st.builds(jobs.CheckpointJudged, checkpoint=st.sampled_from("gh"), champion=st.sampled_from(["", "g"]),
              outcome=st.sampled_from(["keep", "promote"]), regressed=st.booleans(), reasons=st.just(("r",)),
              comparisons=st.just(({"n": 1},)), by=st.just("evaluate-1")),
    st.builds(jobs.ChampionMoved, checkpoint=st.sampled_from("gh"), before=st.sampled_from(["", "g"]),
              how=st.sampled_from(jobs.ChampionMove), reason=st.just("r"), by=st.just("evaluate-1")),
    st.builds(jobs.LevelJudged, generator=st.sampled_from("ab"), level=st.integers(1, 3), before=st.integers(1, 2),
              after=st.integers(1, 2), suite=st.just("s"), suite_digest=st.sampled_from("xy"), n=st.just(100),
              score=st.just(0.9), low=st.just(0.8), high=st.just(1.0), confidence=st.just(0.95),
              checkpoint=st.sampled_from("gh"), weights=st.sampled_from("vw"), evaluation=st.just("e"),
              reason=st.just("r"), by=st.just("evaluate-1")),
)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.journal = Journal.open(self.folder / "j")
        self.acknowledged: list[bytes] = []
        self.next_number = self.next_task = 1

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)

    @rule(after=st.lists(JOBS, max_size=2, unique=True), any_end=st.booleans())
    def submit(self, after: list[str], any_end: bool) -> None:
        number = self.next_number
        event = jobs.JobSubmitted(
            job=f"train-{number}", prepare=f"prepare-{number}", number=number, name="n", request_id=f"r{number}",
            request_digest="d", digest="d", size_bytes=1, priority=jobs.Priority.NORMAL, origin=jobs.Origin.PEOPLE,
            after=tuple(after), after_any=any_end, spec={})
        if self.commit([event]):
            self.next_number += 1

    @rule(kind=st.sampled_from(sorted(jobs.TASKS)))
    def ask_for_a_task(self, kind: JobKind) -> None:
        number = self.next_task
        if self.commit([jobs.TaskSubmitted(job=f"{kind}-{number}", kind=kind, number=number, name="n",
                                           request_id=f"t{number}", request_digest="d", cause="c", task={})]):
            self.next_task += 1

    @rule(fields=st.dictionaries(st.sampled_from("ab"), st.integers(0, 9) | st.text(max_size=3), max_size=2))
    def note(self, fields: dict[str, int | str]) -> None:
        number = len(self.acknowledged)
        assert self.commit([jobs.UserNoted(request_id=f"u{number}", request_digest="d", name="Mine", fields=fields)])

    @rule(events=st.lists(EVENTS, min_size=1, max_size=3))
    def change(self, events: list[jobs.AnyEvent]) -> None:
        self.commit(events)

    @rule(events=st.lists(EVENTS, max_size=2))
    def crash_in_a_transaction(self, events: list[jobs.AnyEvent]) -> None:
        """What a killed process leaves: the files as they are now, with a transaction open."""
        transaction = self.journal.transaction()
        transaction.__enter__()
        for event in events:
            try:
                with self.journal.atomic():
                    self.journal.append(event, 1.0)
            except (TransitionError, NotFoundError):
                pass
        left = Path(tempfile.mkdtemp())
        for path in self.folder.iterdir():
            shutil.copy(path, left / path.name)
        with contextlib.suppress(ZeroDivisionError):
            transaction.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        self.journal.close()
        shutil.rmtree(self.folder)
        self.folder = left
        self.journal = Journal.open(left / "j")

    def commit(self, events: list[jobs.AnyEvent]) -> bool:
        written = []
        with self.journal.transaction():
            for event in events:
                try:
                    with self.journal.atomic():
                        written.append(self.journal.append(event, 1.0).hash)
                except (TransitionError, NotFoundError):
                    pass
        self.acknowledged += written
        return bool(written)

    @invariant()
    def everything_acknowledged_is_there_in_order(self) -> None:
        entries = self.journal.replay(0, 10_000)
        assert [entry.hash for entry in entries] == self.acknowledged
        previous = GENESIS
        for seq, at, body, digest in self.journal.connection.execute(
                "SELECT seq, at, body, hash FROM events ORDER BY seq"):
            assert chain(previous, seq, at, body) == digest
            previous = digest

    @invariant()
    def projections_are_the_fold(self) -> None:
        folded = apsw.Connection(":memory:")
        schema.run_statements(folded, schema.SCHEMA)
        fold = Fold(folded)
        for entry in self.journal.replay(0, 10_000):
            fold.apply(entry.seq, entry.at, entry.event)
        fold.flush()
        for table in TABLES:
            query = f"SELECT * FROM {table} ORDER BY 1, 2"
            assert list(folded.execute(query)) == list(self.journal.connection.execute(query))
        counted = "SELECT kind, state, count(*) FROM jobs GROUP BY kind, state ORDER BY kind, state"
        kept = "SELECT kind, state, n FROM counts WHERE n<>0 ORDER BY kind, state"
        assert list(folded.execute(counted)) == list(folded.execute(kept))


JournalMachine.TestCase.settings = settings(max_examples=18, stateful_step_count=25, deadline=None)
TestJournal = JournalMachine.TestCase
