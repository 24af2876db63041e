"""The watcher's loop: sweep, claim what is settled, store it, submit it, and remove it after the receipt."""

from __future__ import annotations

from services.watcher import inbox
from services.watcher.inbox import Claim
from services.watcher.notices import Notices
from services.watcher.settling import Settling, refusal
from trainq import files, ingest
from trainq.errors import InputError
from trainq.ids import new_request_id
from trainq.messages import Done, Lifecycle, ReportRefusedFile, Submit, SubmitItem, Submitted
from trainq.service import Peer, Process

# One submit's worth: bounds what a crash makes to be stored again.
CLAIMS_AT_ONCE = 100


class Watcher:
    """Carries files from the inbox to the journal. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process, topics=(b"event.BrokerStarted",))
        self._settling = Settling(process.settings.watcher.settle_seconds)
        self._notices = Notices(process.home.inbox)
        process.poller.watch_descriptor(self._notices.descriptor)
        # What an earlier life of this process had claimed or half copied.
        files.sweep_temporaries(process.home.data / "spool")
        self._claims = inbox.leftover_claims(process.home)

    def close(self) -> None:
        self._process.set_state(Lifecycle.STOPPED)
        self._notices.close()
        self._peer.close()

    def turn(self) -> None:
        """One round; what it cannot finish stays claimed and is tried again in the next."""
        self._peer.beat()
        self._notices.drain()
        self._claim_settled()
        if self._claims:
            self._carry(self._claims[:CLAIMS_AT_ONCE])
        self._process.set_state(Lifecycle.RUNNING)
        self._peer.wait(self._seconds_to_wait())

    def _claim_settled(self) -> None:
        now = self._process.clock.monotonic()
        for entry in self._settling.observe(inbox.sweep(self._process.home), now):
            if inbox.has_writer(self._process.home.inbox / entry.name):
                continue
            claimed = inbox.claim(self._process.home, entry)
            if claimed is None:
                continue
            self._process.log.info("claimed", claim=claimed.id, name=claimed.shown_name, bytes=entry.size_bytes)
            reason = refusal(entry)
            if reason is not None:
                self._refuse(claimed, reason)
            else:
                self._claims.append(claimed)
            self._peer.beat()

    def _carry(self, claims: list[Claim]) -> None:
        """Store and submit some claims in one message, then remove those that have a receipt."""
        items: list[tuple[Claim, SubmitItem]] = []
        for claimed in claims:
            self._peer.beat()
            try:
                stored = ingest.store_file(self._process.home, claimed.path)
            except ingest.FileChangedError as error:
                self._process.log.warning("still_changing", claim=claimed.id, error=str(error))
                continue  # somebody writes on: it stays claimed until it is whole
            except InputError as error:
                self._refuse(claimed, error.reason)
                self._claims.remove(claimed)
                continue
            items.append((claimed, SubmitItem(
                request_id=claimed.id, name=claimed.shown_name[-1024:], folder=claimed.folder[:1024],
                digest=stored.digest, size_bytes=stored.size_bytes)))
        if not items:
            return
        reply = self._peer.call(Submit(request_id=new_request_id(), items=[item for _, item in items]), Submitted)
        for (claimed, _), receipt in zip(items, reply.receipts, strict=True):
            if receipt.error:
                self._refuse(claimed, receipt.error)
            else:
                self._process.log.info("accepted", claim=claimed.id, name=claimed.shown_name, job=receipt.job,
                                       duplicate=receipt.duplicate)
                inbox.discard(self._process.home, claimed)
            self._claims.remove(claimed)

    def _refuse(self, claimed: Claim, reason: str) -> None:
        report = inbox.refuse(self._process.home, claimed, reason)
        self._process.log.warning("refused", claim=claimed.id, name=claimed.shown_name, reason=reason)
        self._peer.call(ReportRefusedFile(request_id=new_request_id(), name=claimed.shown_name[-1024:],
                                          reason=reason[:4096], report=report.name), Done)

    def _seconds_to_wait(self) -> float:
        sweep_seconds = self._process.settings.watcher.sweep_seconds
        if self._claims:
            return min(sweep_seconds, max(0.2, self._process.settings.watcher.settle_seconds))
        next_settled = self._settling.seconds_to_next(self._process.clock.monotonic())
        # Never a busy loop: a settled file with a writer is looked at a few times a second at most.
        return sweep_seconds if next_settled is None else min(sweep_seconds, max(0.2, next_settled))


def serve(process: Process) -> None:
    """Run the watcher until it is told to stop."""
    watcher = Watcher(process)
    try:
        process.loop(watcher.turn)
    finally:
        watcher.close()
