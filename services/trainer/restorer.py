"""A restore in the training process: copy, tell how far it is, and leave it when that is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.trainer import surroundings, wire
from services.trainer.failures import failure
from trainq import restoring
from trainq.config import Home
from trainq.errors import StorageError, StorageFullError
from trainq.ml.training import Wish

_SHOW_SECONDS = 1.0


class _LeftError(Exception):
    """It was cancelled in the middle, or the process is to stop."""


def restore(home: Home, order: wire.Restore, wish: Callable[[str], Wish],
            say: Callable[[wire.WireMessage], None]) -> bool:
    """Publish the copy that ``order`` names; whether it is the head now. A reason why not is said.

    Args:
        home: whose line; the caller holds the lock on its checkpoints.
        order: what to do.
        wish: what the agent wants of a job by now; another wish than to go on ends the copying with nothing done.
        say: tells the agent.
    """
    written, shown_at = 0, 0.0

    def copied(size_bytes: int) -> None:
        nonlocal written, shown_at
        written += size_bytes
        if wish(order.job) is not Wish.GO_ON:
            raise _LeftError
        if time.monotonic() >= shown_at:
            shown_at = time.monotonic() + _SHOW_SECONDS
            say(wire.Restoring(job=order.job, done_bytes=written, total_bytes=source.size_bytes))

    try:
        source = restoring.find(home, order.store, order.name)
        # Written once, and read once more when the line is opened.
        say(wire.Saving(size_bytes=2 * source.size_bytes))
        restoring.publish_again(home, source, by=order.job, above=order.newest, journal_seq=order.journal_seq,
                                on_chunk=copied)
    except _LeftError:
        return False
    except Exception as error:
        told = failure(order.job, error)
        surroundings.note(told.traceback)
        say(told)
        if isinstance(error, StorageError | StorageFullError | OSError):
            # Nobody knows what is on the disk: it may have got its name, and not be durable. A new process looks.
            raise
        return False
    return True
