"""The numbers under which the tables keep jobs: an integer is found, and kept in order, for less than a text.

A job's key is its submission's (or task's) number times :data:`SPACING`, plus a number for its kind. So jobs of one
kind are in the order of their submission, and the jobs of one submission are beside each other.
"""

from __future__ import annotations

from trainq.errors import NotFoundError
from trainq.jobs import JobKind

# In the journal's files: a kind keeps its number for ever, and there is room for more kinds.
SPACING = 16
_OF_KIND = {JobKind.PREPARE.value: 0, JobKind.TRAIN.value: 1, JobKind.SNAPSHOT.value: 2, JobKind.VERIFY.value: 3,
            JobKind.RETENTION.value: 4, JobKind.RESTORE.value: 5, JobKind.BACKUP.value: 6,
            JobKind.CONSOLIDATE.value: 7, JobKind.REBASE.value: 8, JobKind.LEND.value: 9,
            JobKind.GENERATE.value: 10, JobKind.EVALUATE.value: 11, JobKind.PUBLISH.value: 12}
_KIND_OF = {number: kind for kind, number in _OF_KIND.items()}
# SQLite's integers have 64 bits; nobody submits so many.
_MAX_DIGITS = 17
MAX_NUMBER = 10**_MAX_DIGITS


def key_of(job: str) -> int:
    """The key of ``train-7``.

    Raises:
        NotFoundError: no job can have this id.
    """
    kind, _, digits = job.rpartition("-")
    of_kind = _OF_KIND.get(kind)
    if (of_kind is None or not (digits.isascii() and digits.isdecimal()) or digits[0] == "0"
            or len(digits) > _MAX_DIGITS):
        raise NotFoundError(f"there is no job {job}", mend="trainq list shows them")
    return int(digits) * SPACING + of_kind


def id_of(key: int) -> str:
    """The id of the job with this key."""
    number, of_kind = divmod(key, SPACING)
    return f"{_KIND_OF[of_kind]}-{number}"


def content_of(digest: str) -> int:
    """The first 64 bits of a digest as a number that SQLite keeps; whatever is no digest gets 0."""
    try:
        return int.from_bytes(bytes.fromhex(digest[:16].zfill(16)), "big", signed=True)
    except ValueError:
        return 0


def sibling(key: int, kind: JobKind) -> int:
    """The key of the job of this kind that was submitted with the job of ``key``."""
    return key - key % SPACING + _OF_KIND[kind.value]
