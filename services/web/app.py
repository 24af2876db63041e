"""The web loop: hear of events and pictures, and hand them to the HTTP server, which runs in a thread of its own.

The main thread has what every service has: the lock, heartbeats, signals, the sockets of ZeroMQ. A server thread that
ends, or does nothing for a minute, ends the process: supervisord starts it again.
"""

from __future__ import annotations

import os

from services.web import guarding, routes
from services.web.serving import HttpThread, listen
from services.web.sites import Site
from trainq import picture
from trainq.errors import StorageError, TrainqError
from trainq.messages import Lifecycle
from trainq.service import Peer, Process
from trainq.transport import Subscriber, new_context

WAIT_SECONDS = 1.0
STUCK_SECONDS = 60.0
# Whoever floods it takes little from whoever trains on the same processors.
NICENESS = 10
_END_SECONDS = 5.0


class Web:
    """The service. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process)
        self._context = new_context()
        self._pictures = Subscriber(self._context, process.home.status_socket, (picture.STATUS_TOPIC,))
        process.poller.watch(self._pictures)
        self._site: Site | None = None
        self._http: HttpThread | None = None
        # When the server's loop last answered, as it was last seen; and for how long it has not, while this one turned.
        self._answered_at, self._silent_seconds, self._turn_at = 0.0, 0.0, 0.0
        self.code = 0

    def close(self) -> None:
        """End what is being served, say goodbye, and drop the connections."""
        try:
            if self._http is not None and self._site is not None:
                self._site.asker.stop()
                self._http.post(self._site.feed.close)
                if not self._http.end(_END_SECONDS):
                    self._process.log.warning("http_not_ended")
                self._site.close()
            self._process.set_state(Lifecycle.STOPPED)
            self._peer.close()
        finally:
            self._context.destroy(linger=0)

    def turn(self) -> None:
        """One round: a heartbeat, and whatever was heard goes to the server's loop."""
        process = self._process
        self._peer.beat()
        if self._http is None or self._site is None:
            self._open()
            return
        events = self._peer.wait(WAIT_SECONDS)
        pictures = self._pictures.drain()
        newest = pictures[-1][1] if pictures else None
        site = self._site
        self._http.post(lambda: site.take(events, newest))
        stuck = self._is_stuck(site)
        if stuck or not self._http.is_alive:
            process.log.error("http_ended", stuck=stuck, error=repr(self._http.failure))
            self.code = TrainqError.exit_code
            process.stopping = True

    def _is_stuck(self, site: Site) -> bool:
        """Whether the loop does nothing. While this thread stood still, too, nothing was asked of it."""
        now = self._process.clock.monotonic()
        if site.alive_at != self._answered_at:
            self._answered_at, self._silent_seconds = site.alive_at, 0.0
        else:
            self._silent_seconds += min(now - self._turn_at, 2 * WAIT_SECONDS)
        self._turn_at = now
        return self._silent_seconds > STUCK_SECONDS

    def _open(self) -> None:
        """Listen.

        Raises:
            StorageError: the port cannot be had, or the token not be made.
        """
        process, port = self._process, self._process.settings.web.port
        token = guarding.token_of(process.home)
        try:
            listener = listen(port)
        except OSError as error:
            raise StorageError(f"port {port} cannot be had: {error.strerror}",
                               mend="who has it? ss -ltnp; or set [web] port") from error
        port = listener.getsockname()[1]
        self._site = Site(process.home, process.settings, process.log, process.clock, token)
        self._http = HttpThread(routes.application(self._site, port), listener, self._site.limited)
        process.set_state(Lifecycle.RUNNING, f"http://{guarding.ADDRESS}:{port}")


def serve(process: Process) -> int:
    """Run the web service until it is told to stop."""
    os.nice(NICENESS)
    web = Web(process)
    try:
        process.loop(web.turn, rests=False)  # it takes no work
    finally:
        web.close()
    return web.code
