"""The status loop: ask the broker, fold, publish on ``run/status.sock``, replace ``status.json``.

It never slows anybody: it asks one cheap question a second, and a broker that does not answer only makes the picture
older, which the picture says.
"""

from __future__ import annotations

import orjson
from msgspec import to_builtins

from trainq import files, messages, picture
from trainq.ids import new_request_id
from trainq.liveness import is_alive
from trainq.messages import GetOverview, Lifecycle, Overview
from trainq.service import Peer, Process
from trainq.transport import Publisher, new_context

# Twice a lost heartbeat is bad luck; more is silence.
SILENT_HEARTBEATS = 2.0


class Status:
    """Keeps the newest overview and its age. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process)
        self._context = new_context()
        self._publisher = Publisher(self._context, process.home.status_socket)
        self._overview: Overview | None = None
        self._overview_at = 0.0
        self._next_round = 0.0

    def close(self) -> None:
        self._process.set_state(Lifecycle.STOPPED)
        self._peer.close()
        self._show()
        self._context.destroy(linger=0)

    def turn(self) -> None:
        """One round: ask, take what has been answered, show; then wait for the next."""
        self._peer.beat()
        self._peer.client.post(GetOverview(request_id=new_request_id()))
        self._next_round = self._process.clock.monotonic() + self._process.settings.status.interval_seconds
        while not self._process.stopping and (left := self._next_round - self._process.clock.monotonic()) > 0:
            self._peer.wait(left)
            for reply in self._peer.take_posted():
                if isinstance(reply, Overview):
                    self._overview, self._overview_at = reply, self._process.clock.monotonic()
                    self._process.set_state(Lifecycle.RUNNING)
                    self._show()
        self._show()

    def _show(self) -> None:
        process = self._process
        age = process.clock.monotonic() - self._overview_at if self._overview else None
        now = picture.fold(
            self._overview, overview_age_seconds=None if age is None else round(age, 3),
            now_wall=process.clock.wall(), is_alive=is_alive,
            silent_after_seconds=SILENT_HEARTBEATS * process.settings.broker.heartbeat_seconds)
        self._publisher.publish(picture.STATUS_TOPIC, messages.encode(now))
        files.replace_file(process.home.status_file,
                           orjson.dumps(to_builtins(now), option=orjson.OPT_INDENT_2) + b"\n")


def serve(process: Process) -> None:
    """Run the status until it is told to stop."""
    status = Status(process)
    try:
        process.loop(status.turn)
    finally:
        status.close()
