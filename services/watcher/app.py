"""The watcher's loop: sweep the inbox, claim what is settled, have it carried to the journal; and heed the triggers."""

from __future__ import annotations

import signal

from services.watcher import inbox
from services.watcher.carrying import CLAIMS_AT_ONCE, Carrier, StoppingError
from services.watcher.notices import Notices
from services.watcher.settling import Entry, Settling
from services.watcher.triggers import Triggers
from trainq import files
from trainq.errors import BrokerUnavailableError, StorageError, StorageFullError
from trainq.ids import new_request_id
from trainq.messages import Done, Lifecycle, ReportInbox
from trainq.service import Peer, Process, Watchdog
from trainq.supervising import Supervisor

# What cannot be claimed is left alone this long, then tried again: somebody may have mended it.
STUCK_SECONDS = 10.0
_ASK_SECONDS = 2.0
# Never a busy loop: a settled file with a writer is looked at a few times a second at most.
_SHORTEST_WAIT_SECONDS = 0.2


class Watcher:
    """Takes files out of the inbox. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process, topics=(b"event.BrokerStarted",))
        self._settling = Settling(process.settings.watcher.settle_seconds)
        self._notices = Notices((process.home.inbox, process.home.control), process.log)
        process.poller.watch_descriptor(self._notices.descriptor)
        home = process.home
        files.sweep_temporaries(home.claimed, home.spool, home.data, home.rejected)
        self._carrier = Carrier(process, self._peer)
        self._triggers = Triggers(process, self._peer)
        # Of the one who watches all the others.
        self._watchdog = Watchdog(process, ("status",), Supervisor.of_this_program())
        # What could not be claimed: when to try again (monotonic seconds), and why.
        self._stuck: dict[Entry, tuple[float, str]] = {}
        # Of the last sweep: those that can be claimed, once they are settled. And what the broker was told of it.
        self._unclaimed = 0
        self._reported: int | None = None

    def close(self) -> None:
        self._process.set_state(Lifecycle.STOPPED)
        self._notices.close()
        self._peer.close()

    def turn(self) -> None:
        """One round; what it cannot finish stays claimed and is tried again in the next."""
        self._peer.beat()
        self._watchdog.look()
        self._notices.drain()
        is_more_settled = self._claim_settled()
        try:
            has_progressed = self._carrier.carry()
        except StoppingError:
            self._process.log.info("stopped_within_a_file")
            return  # it stays claimed for the next life
        self._triggers.carry()
        self._report_inbox()
        self._process.set_state(Lifecycle.RUNNING, self._detail())
        at_once = is_more_settled or (has_progressed and self._carrier.is_busy)
        self._peer.wait(0.0 if at_once else self._seconds_to_wait())

    def _claim_settled(self) -> bool:
        """Claim what is settled, each entry by itself; whether more of it is left than one turn takes."""
        now = self._process.clock.monotonic()
        found = inbox.sweep(self._process.home)
        self._stuck = {entry: self._stuck[entry] for entry in found if entry in self._stuck}
        tried_now = [entry for entry in found if entry not in self._stuck or self._stuck[entry][0] <= now]
        settled = self._settling.observe(tried_now, now)
        # What is stuck may be so for ever: nobody waits for it.
        self._unclaimed = self._settling.watched - sum(entry in self._stuck for entry in tried_now)
        tried = 0
        for entry in settled:
            self._peer.beat()
            # Those with a writer do not count: they must not keep the others waiting.
            if not inbox.has_writer(self._process.home.inbox / entry.name):
                if tried == CLAIMS_AT_ONCE:
                    return True
                self._claim(entry)
                tried += 1
        return False

    def _report_inbox(self) -> None:
        """Tell the broker when there are files to come, and when there are none: maintenance waits for that."""
        waiting = self._carrier.waiting + self._unclaimed
        if self._reported is not None and bool(self._reported) == bool(waiting):
            return
        try:
            self._peer.client.call(ReportInbox(request_id=new_request_id(), waiting=waiting), Done,
                                   timeout_seconds=_ASK_SECONDS)
        except (BrokerUnavailableError, StorageError, StorageFullError):
            return  # the next turn says it
        self._reported = waiting

    def _claim(self, entry: Entry) -> None:
        log = self._process.log
        try:
            claimed = inbox.claim(self._process.home, entry)
        except inbox.CannotClaimError as error:
            if entry not in self._stuck:
                log.warning("cannot_be_claimed", name=inbox.shown(entry.name), error=str(error))
            self._stuck[entry] = (self._process.clock.monotonic() + STUCK_SECONDS, str(error))
            return
        if self._stuck.pop(entry, None) is None:
            self._unclaimed -= 1
        if claimed is not None:
            log.info("claimed", claim=claimed.id, name=claimed.shown_name, bytes=entry.size_bytes)
            self._carrier.add(claimed)

    def _detail(self) -> str:
        """What a person must mend; empty when there is nothing."""
        if not self._stuck:
            return self._watchdog.alarm
        entry, (_, why) = next(iter(self._stuck.items()))
        return f"{len(self._stuck)} of the inbox cannot be taken, among them {inbox.shown(entry.name)[-200:]}: {why}"

    def _seconds_to_wait(self) -> float:
        sweep_seconds = self._process.settings.watcher.sweep_seconds
        if self._carrier.is_busy:
            return min(sweep_seconds, max(_SHORTEST_WAIT_SECONDS, self._process.settings.watcher.settle_seconds))
        next_settled = self._settling.seconds_to_next(self._process.clock.monotonic())
        return sweep_seconds if next_settled is None else min(sweep_seconds, max(_SHORTEST_WAIT_SECONDS, next_settled))


def serve(process: Process) -> None:
    """Run the watcher until it is told to stop."""
    # The kernel signals the holder of a lease whom a writer meets (fcntl(2)); unhandled, that would kill it.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    watcher = Watcher(process)
    try:
        process.loop(watcher.turn)
    finally:
        watcher.close()
