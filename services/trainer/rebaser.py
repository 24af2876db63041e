"""A rebase in the training process: go on from a merged model, and publish that; or say why not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from services.trainer import surroundings, wire
from services.trainer.failures import failure
from trainq.config import Home
from trainq.ml import checkpointing, rebasing
from trainq.ml.line import ModelLine
from trainq.ml.training import Wish


def rebase(line: ModelLine, home: Home, order: wire.Rebase, wish: Callable[[str], Wish],
           say: Callable[[wire.WireMessage], None]) -> bool:
    """Publish the line on the merged weights that ``order`` names; whether that is the head now. Says why not.

    Args:
        line: as it stands; released where it was begun with.
        home: whose line; the caller holds the lock on its checkpoints.
        order: what to do.
        wish: what the agent wants of a job by now; another wish than to go on leaves everything as it is.
        say: tells the agent.

    Raises:
        Exception: it failed when the line was let go of, or on the disk; only a new process can go on. It was said.
    """
    line.generation_floor = max(line.generation_floor, order.newest)
    try:
        if wish(order.job) is not Wish.GO_ON:
            return False
        say(wire.Saving(size_bytes=2 * line.model_bytes))  # read, and written again
        again = rebasing.rebased(line, home, order.source, order.lora, order.seed,
                                  warmup=order.warmup)
        again.facts = msgspec.structs.replace(again.facts, journal_seq=order.journal_seq)
        checkpointing.publish(again, home, "rebase", made_by=order.job)
    except Exception as error:
        told = failure(order.job, error)
        surroundings.note(told.traceback)
        say(told)
        if line.is_released:
            raise
        return False
    again.release()
    return True
