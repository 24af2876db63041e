"""Triggers: an empty file ``control/.trigger_snapshot`` (verify, retention, consolidation) asks for that task once.

It is claimed by a rename that carries the request id, submitted, and removed after the answer: killed in between, the
next life submits the same request again. Two of one name are two requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainq import files
from trainq.errors import BrokerUnavailableError, StorageError, StorageFullError, TrainqError
from trainq.ids import is_id, new_request_id
from trainq.messages import Accepted, ConsolidateTask, RetentionTask, SnapshotTask, SubmitTask, Task, VerifyTask
from trainq.service import Peer, Process

TRIGGER = ".trigger_"
CLAIMED = ".claimed_"
TASKS: Mapping[str, Task] = {"snapshot": SnapshotTask(), "verify": VerifyTask(), "retention": RetentionTask(),
                               "consolidation": ConsolidateTask()}
_ASK_SECONDS = 2.0


class Triggers:
    """Looks into ``control/`` at each turn of the watcher."""

    def __init__(self, process: Process, peer: Peer) -> None:
        self._process = process
        self._peer = peer
        self._folder = process.home.control
        self._unknown: set[str] = set()

    def carry(self) -> None:
        """Claim what is there, and ask the broker for what is claimed; what it does not hear stays claimed.

        Raises:
            StorageError, StorageFullError: the disk; nothing was lost.
        """
        for name in self._names():
            word = name.removeprefix(TRIGGER)
            if not name.startswith(TRIGGER):
                continue
            if word in TASKS and (self._folder / name).is_file():
                files.move(self._folder / name, self._folder / f"{CLAIMED}{word}_{new_request_id()}")
            elif name not in self._unknown:
                self._unknown.add(name)
                self._process.log.warning("trigger_unknown", name=name[:100], known=sorted(TASKS))
        for name in self._names():
            word, _, request_id = name.removeprefix(CLAIMED).rpartition("_")
            is_claim = name.startswith(CLAIMED) and word in TASKS and is_id(request_id)
            if is_claim and not self._ask(word, request_id, self._folder / name):
                return  # nor will it take the others now

    def _ask(self, word: str, request_id: str, claimed: Path) -> bool:
        """Whether the broker has answered."""
        log = self._process.log
        request = SubmitTask(request_id=request_id, task=TASKS[word], cause=f"control/{TRIGGER}{word}")
        try:
            accepted = self._peer.client.call(request, Accepted, timeout_seconds=_ASK_SECONDS)
        except (BrokerUnavailableError, StorageError, StorageFullError):
            return False
        except TrainqError as error:
            # A definite no, which asking again does not change.
            log.error("trigger_refused", name=f"{TRIGGER}{word}", error=str(error))
        else:
            log.info("triggered", name=f"{TRIGGER}{word}", job=accepted.job)
        files.remove_file(claimed)
        return True

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise files.storage_error(error, f"looking into {self._folder}") from error
