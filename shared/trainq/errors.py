"""The errors of trainq: one class for each thing that a caller can do about it.

Every error carries its facts as attributes and its prose in ``__str__``. ``exit_code`` is what the process edge
(the command line, a service's ``main``) ends with; the numbers follow BSD ``sysexits.h`` and are part of the public
contract (docs/guide.md, "Exit codes").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class TrainqError(Exception):
    """Root of all errors that trainq raises on purpose."""

    exit_code = 70
    code = "internal"

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message} ({self.mend})" if self.mend else self.message


class UsageError(TrainqError):
    """The caller asked for something that makes no sense; asking differently helps."""

    exit_code = 64
    code = "usage"


class ConfigurationProblem(NamedTuple):
    """One mistake in the configuration: where it is, what is wrong, and what would be right."""

    key: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}; {self.mend}"


class ConfigurationError(TrainqError):
    """The configuration cannot be used. Carries every mistake found, not just the first."""

    exit_code = 78
    code = "configuration"

    def __init__(self, problems: Sequence[ConfigurationProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InputError(TrainqError):
    """A file given by a person cannot be used. Names file, line, column, field, reason and mend where known."""

    exit_code = 65
    code = "input"

    def __init__(
        self,
        reason: str,
        *,
        file: str = "",
        line: int = 0,
        column: int = 0,
        field: str = "",
        mend: str = "",
    ) -> None:
        self.file, self.line, self.column, self.field, self.reason = file, line, column, field, reason
        place = ":".join([file] + [str(n) for n in (line, column) if n]) if file else ""
        super().__init__(" ".join(part for part in (f"{place}:" if place else "", f"{field}:" if field else "", reason)
                                  if part), mend=mend)


class MaskingError(InputError):
    """What is to be trained of a file is not, by a fault in its masks: trying it again changes nothing."""

    code = "masking"


class MemoryShortError(InputError):
    """A single row does not fit into the memory in which the model is trained."""

    code = "memory"


class WeightsNotFiniteError(InputError):
    """A weight is no finite number any more: what holds it is not published.

    ``job_step``: after so many steps of the job, where that is not the state of now.
    """

    job_step: int | None = None


class SpoiledMemoryError(TrainqError):
    """What was computed does not come again when it is computed again, time after time: no file's fault."""

    exit_code = 74
    code = "spoiled_memory"


class NotFoundError(TrainqError):
    """What was named does not exist."""

    exit_code = 66
    code = "not_found"


class AnotherJournalError(TrainqError):
    """The journal is not the one that was read so far: another one, or one that was put back to an earlier state.

    ``seq`` is the place that was read up to, in the journal ``journal_id``; ``found_id`` and ``head_seq`` are those of
    the journal that is there now.
    """

    exit_code = 66
    code = "another_journal"

    def __init__(self, journal_id: str, seq: int, found_id: str, head_seq: int) -> None:
        self.journal_id, self.seq, self.found_id, self.head_seq = journal_id, seq, found_id, head_seq
        if journal_id not in ("", found_id):
            what = f"the journal is another one now, {found_id} in place of {journal_id}"
        elif head_seq < seq:
            what = f"the journal was put back: it ends at event {head_seq}, and was read up to {seq} before"
        else:
            what = f"the journal was put back: event {seq} is another one than the one that was read before"
        super().__init__(what, mend="what was known from it counts no more: look anew")


class BrokerUnavailableError(TrainqError):
    """No answer came in time. The outcome of a write is unknown; the same request may be sent again."""

    exit_code = 69
    code = "unavailable"


class SupervisorUnavailableError(TrainqError):
    """supervisord does not answer. Whether an order reached it is unknown; the same order may be given again."""

    exit_code = 69
    code = "no_supervisor"

    def __init__(self, message: str, *, mend: str = "is it running? scripts/up starts it") -> None:
        super().__init__(message, mend=mend)


class StorageFullError(TrainqError):
    """The disk (or its inodes, or a quota) is full. Nothing was accepted; it works again when there is room."""

    exit_code = 73
    code = "storage_full"


class StorageError(TrainqError):
    """The file system refused or failed an operation for another reason than room."""

    exit_code = 74
    code = "storage"


class DamageError(TrainqError):
    """Bytes on disk are not what a digest or the format says. Never repaired by guessing."""

    exit_code = 74
    code = "damage"

    def __init__(self, path: str, reason: str, *, mend: str = "") -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}", mend=mend)


class ShardLostError(DamageError):
    """A shard is not in the cache any more, or is not what its digest says. It can be made again from the file."""

    code = "shard_lost"


class OtherModelError(TrainqError):
    """A file was prepared for another model than the one that this home's line trains."""

    exit_code = 78
    code = "other_model"


class NoGpuError(TrainqError):
    """A GPU is required, and torch computes on something else."""

    exit_code = 78
    code = "no_gpu"


class OtherFingerprintError(TrainqError):
    """What computes now is not what computed the head, and the configuration says to wait for a person."""

    exit_code = 78
    code = "other_fingerprint"

    def __init__(self, before: dict[str, str], after: dict[str, str]) -> None:
        changes = ", ".join(f"{key} was {before.get(key) or 'unknown'} and is {after.get(key) or 'unknown'}"
                            for key in sorted(before.keys() | after.keys()))
        super().__init__(f"bits would not repeat on this ground: {changes}", mend=(
            "restore what was, or let it go on (it is recorded): [trainer] on_fingerprint_change = \"continue\""))


class NewerFormatError(TrainqError):
    """Something on disk is of a format that a newer trainq writes: it is no damage, and left as it is."""

    exit_code = 78
    code = "newer_format"

    def __init__(self, path: str, found: int, known: int) -> None:
        self.path = path
        super().__init__(f"{path} has format {found}, the newest known here is {known}",
                         mend="use the trainq that wrote it")


class AlreadyRunningError(TrainqError):
    """Another living process holds the lock of this role."""

    exit_code = 75
    code = "already_running"

    def __init__(self, role: str, pid: int, path: str) -> None:
        self.role, self.pid, self.path = role, pid, path
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{role} is already running as {who} (lock {path})",
                         mend=f"stop that one first, or leave it be: one {role} serves one home")


class ProtocolError(TrainqError):
    """The other side sent bytes that are no valid message of a version known here."""

    exit_code = 76
    code = "protocol"


class BusyError(TrainqError):
    """It cannot be answered just now, for nobody's fault who asks; asking again helps."""

    exit_code = 75
    code = "busy"


class SendAgainError(TrainqError):
    """The content is not in ``data/`` (any more): store it again, then submit it again. Nothing was accepted."""

    exit_code = 75
    code = "send_again"


class TransitionError(TrainqError):
    """The state table has no entry for this event; nothing was changed."""

    exit_code = 65
    code = "transition"

    def __init__(self, entity: str, state: str, event: str) -> None:
        self.entity, self.state, self.event = entity, state, event
        super().__init__(f"{entity} is {state}: {event} is not possible now")


class StaleLeaseError(TrainqError):
    """The lease was taken away (fencing token too old): stop that work and publish nothing of it."""

    exit_code = 75
    code = "stale_lease"

    def __init__(self, job: str, token: int, current: int | None) -> None:
        self.job, self.token, self.current = job, token, current
        super().__init__(f"the lease {token} on {job} is no longer valid (now: {current if current else 'none'})")


class RequestReusedError(TrainqError):
    """A request id came again with other content; the first use stands."""

    exit_code = 65
    code = "request_reused"
