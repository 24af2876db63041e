"""The home: the one folder that holds everything the system keeps, and the names in it."""

from __future__ import annotations

from pathlib import Path

import msgspec

# sun_path of unix(7) holds 108 bytes with the closing NUL.
MAX_SOCKET_PATH_BYTES = 107


class Home(msgspec.Struct, frozen=True):
    """The one folder that holds everything the system keeps, and the names in it."""

    root: Path

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def claimed(self) -> Path:
        return self.inbox / ".claimed"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def rejected(self) -> Path:
        return self.root / "rejected"

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def journal_copy(self) -> Path:
        """Where the broker copies the journal to for a backup."""
        return self.run / "journal-copy.db"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def suites(self) -> Path:
        """The evaluation suites, a folder each, whose rows are never trained."""
        return self.root / "suites"

    @property
    def merged(self) -> Path:
        """Where a merged model waits to become the weights of the line."""
        return self.root / "merged"

    @property
    def trash(self) -> Path:
        """What retention has removed, until its time there is over."""
        return self.root / "trash"

    @property
    def evaluations(self) -> Path:
        """Scores row by row, and what the model said."""
        return self.root / "evaluations"

    @property
    def champion(self) -> Path:
        """The link to the checkpoint that was found best."""
        return self.root / "champion"

    @property
    def current(self) -> Path:
        return self.root / "current"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def status_file(self) -> Path:
        return self.root / "status.json"

    @property
    def request_socket(self) -> Path:
        return self.run / "broker.sock"

    @property
    def event_socket(self) -> Path:
        return self.run / "events.sock"

    @property
    def status_socket(self) -> Path:
        return self.run / "status.sock"

    @property
    def picture_socket(self) -> Path:
        """Where the status process answers who asks for the whole picture."""
        return self.run / "picture.sock"

    @property
    def token_file(self) -> Path:
        """What whoever changes something over HTTP must know."""
        return self.run / "token"

    @property
    def spool(self) -> Path:
        """Where files are copied to before they have their place in ``data``."""
        return self.data / "spool"

    def folders(self) -> tuple[Path, ...]:
        """Every folder that a service may expect to be there."""
        return (self.root, self.inbox, self.claimed, self.control, self.rejected, self.data, self.cache, self.metrics,
                self.checkpoints, self.run, self.logs)
