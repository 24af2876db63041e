"""Carrying: what is claimed is stored, submitted, and removed after the receipt; what is unfit is refused and reported.

Each claim by itself: one that fails stays and is tried again, and never stands in another's way. A refused file is set
aside at once; that the broker does not hear of it yet delays the report alone.
"""

from __future__ import annotations

from services.watcher import inbox
from services.watcher.inbox import Claim, Refusal
from trainq import ingest
from trainq.errors import (
    BrokerUnavailableError,
    InputError,
    RequestReusedError,
    SendAgainError,
    StorageError,
    StorageFullError,
    TrainqError,
)
from trainq.ids import new_request_id
from trainq.ingest import Stored
from trainq.messages import Done, Receipt, ReportRefusedFile, Submit, SubmitItem, Submitted
from trainq.service import Peer, Process

# One submit's worth: bounds a turn, and what a crash makes to be stored again.
CLAIMS_AT_ONCE = 100
_REPORT_SECONDS = 2.0
_DISK_ERRORS = (OSError, StorageError, StorageFullError)


class StoppingError(TrainqError):
    """The process is to stop: raised within a file, so that a large one does not hold it up."""


class Carrier:
    """Owns the claims and the refusals that are not reported yet, those of former lives included."""

    def __init__(self, process: Process, peer: Peer) -> None:
        self._process = process
        self._peer = peer
        self._outbox = inbox.unreported_refusals(process.home)
        self._claims = inbox.leftover_claims(process.home)
        self._last_report_error = ""

    @property
    def waiting(self) -> int:
        """How many claimed files have not been submitted."""
        return len(self._claims)

    @property
    def is_busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._claims or self._outbox)

    def add(self, claimed: Claim) -> None:
        """Take over a claim."""
        self._claims.append(claimed)

    def carry(self) -> bool:
        """One turn's worth of claims; whether any of them came to its end.

        Raises:
            StoppingError: the process is to stop; all stays claimed.
            TrainqError: the disk or the broker failed for at least one claim. The others were carried.
        """
        before = len(self._claims)
        failures: list[Exception] = []
        items: list[tuple[Claim, Stored]] = []
        for claimed in self._claims[:CLAIMS_AT_ONCE]:
            self._keep_alive()
            try:
                stored = self._judge_and_store(claimed)
            except _DISK_ERRORS as error:
                failures.append(error)
                self._postpone(claimed)
                continue
            if stored is not None:
                items.append((claimed, stored))
        if items:
            failures += self._submit(items)
        self._report_refusals()
        if failures:
            raise failures[-1]
        return len(self._claims) < before

    def _keep_alive(self) -> None:
        self._peer.beat()
        if self._process.stopping:
            raise StoppingError("the watcher is to stop")

    def _postpone(self, claimed: Claim) -> None:
        """Behind the others, so that it keeps nobody waiting."""
        self._claims.remove(claimed)
        self._claims.append(claimed)

    def _judge_and_store(self, claimed: Claim) -> Stored | None:
        """Store what is fit; None when it was refused, or must wait."""
        home, log = self._process.home, self._process.log
        try:
            reason = inbox.judge(claimed)
            if reason is None:
                if inbox.has_writer(claimed.path):
                    raise ingest.FileChangedError("somebody has it open for writing")
                return ingest.store_file(home, claimed.path, follow_links=False, on_chunk=self._keep_alive)
        except ingest.FileChangedError as error:
            log.warning("still_changing", claim=claimed.id, name=claimed.shown_name, error=str(error))
            self._postpone(claimed)
            return None
        except FileNotFoundError:
            reason = inbox.reported_reason(home, claimed.id)
            if reason is None:
                log.warning("claim_vanished", claim=claimed.id, name=claimed.shown_name)
                inbox.discard(home, claimed.id)
                self._claims.remove(claimed)
                return None
        except InputError as error:
            reason = f"{error.reason} ({error.mend})" if error.mend else error.reason
        self._refuse(claimed, reason)
        return None

    def _submit(self, items: list[tuple[Claim, Stored]]) -> list[Exception]:
        """Submit in one message what is stored; the disk's failures while the receipts were heeded."""
        reply = self._peer.call(Submit(request_id=new_request_id(), items=[SubmitItem(
            request_id=claimed.id, name=claimed.shown_name[-1024:], folder=claimed.folder[:1024],
            digest=stored.digest, size_bytes=stored.size_bytes) for claimed, stored in items]), Submitted)
        failures: list[Exception] = []
        for (claimed, stored), receipt in zip(items, reply.receipts, strict=True):
            try:
                self._heed(claimed, stored, receipt)
            except _DISK_ERRORS as error:
                failures.append(error)
        return failures

    def _heed(self, claimed: Claim, stored: Stored, receipt: Receipt) -> None:
        home, log = self._process.home, self._process.log
        if receipt.error_code == RequestReusedError.code:
            # A former life had the receipt for what the file held then, and it has changed since.
            self._carry_again(claimed)
        elif receipt.error_code == SendAgainError.code:
            self._postpone(claimed)  # retention is just letting go of this content: it is stored again
        elif receipt.error:
            self._refuse(claimed, receipt.error)
        else:
            log.info("accepted", claim=claimed.id, name=claimed.shown_name, job=receipt.job,
                     duplicate=receipt.duplicate)
            if inbox.is_unchanged(claimed, stored):
                inbox.discard(home, claimed.id)
                self._claims.remove(claimed)
            else:
                self._carry_again(claimed)

    def _carry_again(self, claimed: Claim) -> None:
        """The file holds more than what its request id stands for: it is a new submit, under a new id."""
        again = inbox.reclaim(self._process.home, claimed)
        self._claims.remove(claimed)
        self._claims.append(again)
        self._process.log.warning("changed_after_reading", claim=claimed.id, name=claimed.shown_name,
                                  new_claim=again.id)

    def _refuse(self, claimed: Claim, reason: str) -> None:
        refused = inbox.refuse(self._process.home, claimed, reason)
        self._claims.remove(claimed)
        self._outbox.append(refused)
        self._process.log.warning("refused", claim=refused.id, name=refused.name, reason=refused.reason)

    def _report_refusals(self) -> None:
        for refused in self._outbox[:CLAIMS_AT_ONCE]:
            self._keep_alive()
            try:
                self._report(refused)
            except TrainqError as error:
                if str(error) != self._last_report_error:
                    self._last_report_error = str(error)
                    self._process.log.warning("refusal_not_reported", claim=refused.id, error=str(error))
                if isinstance(error, BrokerUnavailableError):
                    return
                # One that the broker does not take must not hide those behind it.
                self._outbox.remove(refused)
                self._outbox.append(refused)

    def _report(self, refused: Refusal) -> None:
        self._peer.client.call(
            ReportRefusedFile(request_id=refused.id, name=refused.name[-1024:], reason=refused.reason[:4096],
                              report=refused.report.name), Done, timeout_seconds=_REPORT_SECONDS)
        inbox.discard(self._process.home, refused.id)
        self._outbox.remove(refused)
