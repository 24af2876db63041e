"""The roster: what was last heard of each process and of each running job. Memory only, never journalled."""

from __future__ import annotations

from trainq.jobs import JobKind
from trainq.messages import Heartbeat, Lifecycle, Progress, ServiceView

# More services than any installation has; a client that invents names fills no memory.
MAX_SERVICES = 256


class Roster:
    """Heartbeats by service and progress by job, each with its age."""

    def __init__(self) -> None:
        self._beats: dict[str, tuple[Heartbeat, float]] = {}
        self._progress: dict[str, Progress] = {}

    def heard(self, beat: Heartbeat, now: float) -> None:
        """A heartbeat came at ``now`` (monotonic seconds)."""
        if beat.service in self._beats or len(self._beats) < MAX_SERVICES:
            self._beats[beat.service] = (beat, now)

    def knows(self, service: str) -> bool:
        """Whether it was ever heard of."""
        return service in self._beats

    def forget(self, service: str) -> None:
        """It was there for one job alone, which has ended."""
        self._beats.pop(service, None)

    def progressed(self, job: str, progress: Progress) -> None:
        """The holder of the job's lease said how far it is."""
        self._progress[job] = progress

    def progress(self, job: str) -> Progress | None:
        """How far a running job was when last heard of."""
        return self._progress.get(job)

    def forget_progress(self, job: str) -> None:
        """The job runs no longer."""
        self._progress.pop(job, None)

    def holds_gpu(self, service: str, now: float, within_seconds: float) -> bool:
        """Whether it has said lately that it has something in the memory of the GPU, or is to."""
        beat = self._lately(service, now, within_seconds)
        return beat is not None and bool(beat.gpu) and beat.state is not Lifecycle.STOPPED

    def rests(self, service: str, now: float, within_seconds: float) -> bool:
        """Whether it has said lately that it begins nothing, for reasons of its own."""
        beat = self._lately(service, now, within_seconds)
        return beat is not None and beat.rests

    def session_of(self, service: str) -> str:
        """The life of the service that was last heard of; empty if none was, or that has said goodbye."""
        beat, _ = self._beats.get(service, (None, 0.0))
        return beat.session if beat is not None and beat.state is not Lifecycle.STOPPED else ""

    def is_heard(self, service: str, now: float, within_seconds: float) -> bool:
        """Whether it has said anything lately."""
        return self._lately(service, now, within_seconds) is not None

    def is_up(self, service: str, now: float, within_seconds: float) -> bool:
        """Whether it has said lately that it runs."""
        beat = self._lately(service, now, within_seconds)
        return beat is not None and beat.state is Lifecycle.RUNNING

    def _lately(self, service: str, now: float, within_seconds: float) -> Heartbeat | None:
        beat, at = self._beats.get(service, (None, 0.0))
        return beat if now - at <= within_seconds else None

    def views(self, now: float) -> list[ServiceView]:
        """Every service by name."""
        return [
            ServiceView(name=name, session=beat.session, pid=beat.pid, state=beat.state, detail=beat.detail,
                        gpu=bool(beat.gpu), rests=beat.rests, until_told=beat.until_told, cause=beat.cause,
                        started_at=beat.started_at, age_seconds=round(max(0.0, now - at), 3))
            for name, (beat, at) in sorted(self._beats.items()) if not name.startswith(f"{JobKind.LEND}-")
        ]
