"""What the training process is doing, as far as the agent knows, and what is wanted of its job. Pure."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """What the training process is doing, as far as the agent knows."""

    ABSENT = "absent"
    STARTING = "starting"
    IDLE = "idle"
    # Nothing verifies; a restore may bring a line back.
    LINELESS = "lineless"
    TRAINING = "training"
    RESTORING = "restoring"
    LEAVING = "leaving"
    # It ended on purpose, and is started when there is something to do.
    DORMANT = "dormant"
    PAUSED = "paused"


class Wanted(StrEnum):
    """What is wanted of the job that is held, if it is to end."""

    NOTHING = ""
    # With the steps that are done.
    KEEP = "keep"
    TAKE_BACK = "take_back"
