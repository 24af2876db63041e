"""The status loop: ask the broker, fold, publish on ``run/status.sock``, replace ``status.json``.

It never slows anybody: it asks one cheap question every ``[status] interval_seconds``, and a broker that does not
answer only makes the picture older, which the picture says. The broker's events are not read here, they only wake:
after one the question is asked sooner, at most four times a second, so that a change is seen soon. A disk that does not
take ``status.json`` stops nothing: the picture is published all the same, and its detail of this process says why.
"""

from __future__ import annotations

import orjson
from msgspec import to_builtins

from trainq import files, messages, picture
from trainq.errors import StorageError, StorageFullError
from trainq.ids import new_request_id
from trainq.liveness import is_alive
from trainq.messages import GetOverview, Lifecycle, Overview
from trainq.service import Peer, Process
from trainq.transport import Publisher, new_context

# However many events there are, the broker is asked no more often than this.
LEAST_SECONDS_BETWEEN_QUESTIONS = 0.25


class Status:
    """Keeps the newest overview and its age. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process)
        self._context = new_context()
        self._publisher = Publisher(self._context, process.home.status_socket)
        self._overview: Overview | None = None
        self._overview_at = 0.0
        self._write_failure = ""

    def close(self) -> None:
        """Say goodbye, show a last picture, and drop the connections."""
        try:
            self._process.set_state(Lifecycle.STOPPED)
            self._peer.close()
            self._show()
        finally:
            self._context.destroy(linger=0)

    def turn(self) -> None:
        """One round: ask, show each answer, wait until it is time to ask again; unanswered, show how old it all is."""
        clock, shown = self._process.clock, False
        self._peer.beat()
        self._peer.client.post(GetOverview(request_id=new_request_id()))
        asked_at = clock.monotonic()
        ask_at = asked_at + self._process.settings.status.interval_seconds
        while not self._process.stopping and (left := ask_at - clock.monotonic()) > 0:
            if self._peer.wait(left):
                ask_at = min(ask_at, asked_at + LEAST_SECONDS_BETWEEN_QUESTIONS)
            for reply in self._peer.take_posted():
                if isinstance(reply, Overview):
                    self._overview, self._overview_at = reply, clock.monotonic()
                    self._process.set_state(Lifecycle.RUNNING, self._write_failure)
                    self._show()
                    shown = True
        if not shown:
            self._show()

    def _show(self) -> None:
        process = self._process
        age = process.clock.monotonic() - self._overview_at if self._overview else None
        now = picture.fold(
            self._overview, overview_age_seconds=None if age is None else round(age, 3),
            now_wall=process.clock.wall(), is_alive=is_alive,
            silent_after_seconds=picture.silent_after(process.settings.broker))
        self._publisher.publish(picture.STATUS_TOPIC, messages.encode(now))
        self._write(orjson.dumps(to_builtins(now), option=orjson.OPT_INDENT_2) + b"\n")

    def _write(self, content: bytes) -> None:
        """Replace ``status.json``; a failure is logged when it begins, changes or ends, and hinders nothing."""
        failure = ""
        try:
            files.replace_file(self._process.home.status_file, content)
        except (StorageError, StorageFullError) as error:
            failure = str(error)
        if failure != self._write_failure:
            self._write_failure = failure
            if failure:
                self._process.log.warning("picture_not_written", error=failure)
            else:
                self._process.log.info("picture_written_again")


def serve(process: Process) -> None:
    """Run the status until it is told to stop."""
    status = Status(process)
    try:
        process.loop(status.turn)
    finally:
        status.close()
