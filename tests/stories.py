"""Stories at the broker's desk: requests, and what the journal says then. Real SQLite, a clock by hand."""

from pathlib import Path

from services.broker.desk import Desk
from trainq import config, files, ingest, messages
from trainq.jobs import JobKind, JobState
from trainq.journal import Journal, Queries
from trainq.logs import null_log
from trainq.messages import AnyReply, AnyRequest, Lease, Leased, SubmitItem, TrainResult

TRAINED = TrainResult(steps_done=2, steps_planned=2, global_step=2, generation=2, checkpoint="g000002-s00000002")
PREPARED = messages.PrepareResult(shard="s", shard_digest="0" * 64, rows=1, tokens=2, report={})


class HandClock:
    """A clock that somebody moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Story:
    """Requests to a desk, each committed by itself as the app would."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.configuration = config.load({"TRAINQ_HOME": str(folder / "home"), "TRAINQ_SCHEDULE_ENABLED": "false",
                                          "TRAINQ_DISK_HOLD_GIB": "0", **environment},
                                         folder)
        for made in self.configuration.home.folders():
            files.make_directory(made)
        self.clock = HandClock()
        self.journal = Journal.open(self.configuration.home.journal)
        self.desk = Desk(self.journal, self.configuration, self.clock, null_log())
        self.queries = Queries(self.journal)
        self.requests = 0

    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.configuration.home.journal)
        self.desk = Desk(self.journal, self.configuration, self.clock, null_log())
        self.queries = Queries(self.journal)

    def id(self) -> str:
        self.requests += 1
        return f"request-{self.requests}"

    def ask(self, request: AnyRequest) -> AnyReply:
        with self.journal.transaction():
            reply = self.desk.answer(request)
        self.desk.committed(self.desk.take_recorded())
        return reply

    def expire(self) -> None:
        with self.journal.transaction():
            self.desk.expire_leases()
            self.desk.lift_hold()
        self.desk.committed(self.desk.take_recorded())

    def item(self, content: str = "a", **changes: object) -> SubmitItem:
        source = self.configuration.home.root / "source"
        source.write_text(content)
        stored = ingest.store_file(self.configuration.home, source)
        fields = {"request_id": self.id(), "name": f"{content}.jsonl", "digest": stored.digest,
                  "size_bytes": stored.size_bytes, **changes}
        return SubmitItem(**fields)

    def submit(self, content: str = "a", **changes: object) -> messages.Receipt:
        return self.submit_items(self.item(content, **changes))[0]

    def submit_items(self, *items: SubmitItem) -> list[messages.Receipt]:
        reply = self.ask(messages.Submit(request_id=self.id(), items=list(items)))
        assert isinstance(reply, messages.Submitted)
        return reply.receipts

    def lease(self, kind: JobKind, session: str = "s1", worker: str = "") -> Lease | None:
        reply = self.ask(messages.TakeLease(request_id=self.id(), worker=worker or kind.value, session=session,
                                            kinds=(kind,)))
        assert isinstance(reply, Leased)
        return reply.lease

    def complete(self, lease: Lease, result: messages.Result, **changes: object) -> AnyReply:
        return self.ask(messages.Complete(request_id=self.id(), job=lease.job, token=lease.token, result=result,
                                          worker=lease.kind.value, session="s1", **changes))

    def task(self, kind: JobKind, worker: str = "") -> tuple[messages.TaskLease | None, str]:
        reply = self.ask(messages.TakeLease(request_id=self.id(), worker=worker or kind.value, session="s1",
                                            kinds=(kind,)))
        assert isinstance(reply, Leased)
        assert reply.lease is None or isinstance(reply.lease, messages.TaskLease)
        return reply.lease, reply.reason

    def end(self, lease: messages.TaskLease, result: messages.TaskResult) -> messages.AnyReply:
        return self.ask(messages.Complete(request_id=self.id(), job=lease.job, token=lease.token, result=result,
                                          worker=lease.kind.value, session="s1"))

    def prepare_next(self) -> None:
        lease = self.lease(JobKind.PREPARE)
        assert lease is not None
        self.complete(lease, PREPARED)

    def state(self, job: str) -> JobState:
        return self.queries.job(job).state

    def types(self, job: str = "") -> list[str]:
        return [type(entry.event).__name__ for entry in self.journal.replay(0, 1000, job)]
