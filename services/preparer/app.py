"""The preparer's loop: lease a file, judge and tokenise it, publish its shard, report.

The work is a pure function of the file, the model's tokenizer, the frozen settings and what is enclosed
(``trainq.preparing``), so doing it again after a crash gives the same shard. What is enclosed is gathered once
(:mod:`services.preparer.gathering`) and journalled with the shard's digest.
"""

from __future__ import annotations

from services.preparer.gathering import Gatherer
from trainq import files, ingest, preparing, reports
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    GetTrainedShards,
    Lease,
    PrepareResult,
    Progress,
    RejectResult,
    Result,
    TrainedShards,
)
from trainq.modelfolder import context_tokens, model_folder
from trainq.preparing import Prepared, PrepareProgress
from trainq.quality import Band, Verdict
from trainq.service import HeldLease, Process, Worker, take_lease
from trainq.textcodec import TextCodec

_MOST_HOLD_CHARACTERS = 4096


class Preparer(Worker[Lease]):
    """Prepares one file at a time. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, b"event.JobSubmitted", lambda peer: take_lease(peer, (JobKind.PREPARE,)))
        self._codec: TextCodec | None = None
        self._gatherer = Gatherer(process.home, process.log)
        # What shards are made with goes through the spool.
        files.sweep_temporaries(process.home.cache, process.home.rejected, process.home.spool)

    def work(self, held: HeldLease) -> Result:
        lease, home = held.lease, self._process.home
        folder = model_folder(lease.spec.model)
        self._codec = TextCodec.load(folder, known=self._codec)

        def beat(progress: PrepareProgress) -> None:
            held.keep_or_raise(Progress(step=progress.bytes_read, steps=progress.bytes_total, unit="bytes"))

        enclosed, inputs = self._gatherer.gather(lease, self._codec, beat, lambda: self._peer.call(
            GetTrainedShards(request_id=new_request_id(), spread=True), TrainedShards, held.states).shards)
        # People know the train job; its number is the preparation's.
        report_name = lease.job.replace(JobKind.PREPARE.value, JobKind.TRAIN.value)
        outcome = preparing.prepare(
            source=ingest.data_path(home, lease.digest), codec=self._codec, settings=lease.spec.data,
            context_tokens=context_tokens(folder), destination_folder=home.cache, rejected_folder=home.rejected,
            name=report_name, beat=beat, inputs=inputs)
        report = reports.document(outcome.report, outcome.verdict)
        if isinstance(outcome, Prepared):
            return PrepareResult(shard=outcome.shard, shard_digest=outcome.digest, rows=outcome.report.shard_rows,
                                 tokens=outcome.report.shard_tokens, report=report, enclosed=enclosed,
                                 hold=_hold(outcome.verdict) if lease.spec.gate.on_poor == "hold" else "")
        return RejectResult(reason=outcome.reason[:4096], report=report)


def _hold(verdict: Verdict | None) -> str:
    """Why a person should look at the file before it is trained; empty if nobody need."""
    if verdict is None or verdict.band is not Band.POOR:
        return ""
    return f"its quality is poor: {'; '.join(verdict.reasons)}"[:_MOST_HOLD_CHARACTERS]


def serve(process: Process) -> None:
    """Run the preparer until it is told to stop."""
    Preparer(process).serve()
