"""Admission: what a submit becomes. Pure: rows and settings in, an event or a receipt out."""

from __future__ import annotations

from typing import Any

import msgspec

from trainq import messages
from trainq.config import Settings, nearest, overridden
from trainq.errors import RequestReusedError, UsageError
from trainq.jobs import DuplicateSubmitted, JobSubmitted
from trainq.manifests import digest_bytes
from trainq.messages import SubmitItem, TrainSpec

MAX_KNOWN_FOLDERS = 64
_NO_OVERRIDES = messages.Overrides()


def request_digest(item: SubmitItem) -> str:
    """What identifies the content of a request, so that an id used again for something else is noticed."""
    return digest_bytes(messages.encode(item))


def repeated(request_id: str, digest: str, earlier: tuple[str, str]) -> str:
    """The job that a request made when it came for the first time, as (digest, job) ``earlier``.

    Raises:
        RequestReusedError: the id was used for something else.
    """
    if earlier[0] != digest:
        raise RequestReusedError(f"request id {request_id} was used for something else (job {earlier[1]})",
                                 mend="make a new id for a new request")
    return earlier[1]


class Freezer:
    """Resolves what a job's settings are, from the configuration of now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # By folder, for the many that wish nothing of their own. Clients name the folders: bounded.
        self._common: dict[str, dict[str, Any]] = {}

    def freeze(self, item: SubmitItem) -> dict[str, Any]:
        """A :class:`TrainSpec`, as the journal keeps it."""
        if item.overrides != _NO_OVERRIDES:
            return self._resolve(item)
        if item.folder not in self._common:
            if len(self._common) >= MAX_KNOWN_FOLDERS:
                self._common.clear()
            self._common[item.folder] = self._resolve(item)
        return self._common[item.folder]

    def _resolve(self, item: SubmitItem) -> dict[str, Any]:
        spec: dict[str, Any] = msgspec.to_builtins(freeze(item, self._settings))
        return spec


def freeze(item: SubmitItem, settings: Settings) -> TrainSpec:
    """The settings of this job: the configuration of now, the inbox folder's, then the submit's own wishes.

    Raises:
        UsageError: those wishes do not go together.
    """
    data, train = settings.data, settings.train
    overrides = item.overrides
    in_folder = nearest(data.folders, item.folder)
    column_map = overrides.map if overrides.map is not None else (in_folder.map if in_folder else None)
    if column_map is not None:
        data = msgspec.structs.replace(data, map=column_map)
    # What holds for other folders is nothing to this job.
    data = msgspec.structs.replace(data, folders={})
    wished_in_folder = nearest(train.folders, item.folder)
    train = msgspec.structs.replace(train, folders={})
    if wished_in_folder is not None:
        train = overridden(train, wished_in_folder)
    return TrainSpec(model=settings.model.path, data=data, train=overridden(train, overrides), lora=settings.lora,
                     line_seed=settings.train.seed, guard=settings.guard, gate=settings.gate)


def admit(item: SubmitItem, digest: str, *, earlier: tuple[str, str] | None, duplicate: str | None, number: int,
          spec: dict[str, Any]) -> JobSubmitted | DuplicateSubmitted | str:
    """The event that accepts ``item``, or the id of the job that this very request already means.

    Args:
        digest: :func:`request_digest` of the item.
        earlier: (digest, job) of an earlier request under the same id.
        duplicate: the id of the job that already carries this content, if any.
        number: the next submission's number.
        spec: the frozen settings (:class:`Freezer`).

    Raises:
        RequestReusedError: the id was used for something else.
        UsageError: nothing is in the file.
    """
    if earlier is not None:
        return repeated(item.request_id, digest, earlier)
    if item.size_bytes == 0:
        raise UsageError(f"{item.name} is empty", mend="submit a file with at least one row")
    if duplicate is not None and not item.force:
        return DuplicateSubmitted(job=duplicate, request_id=item.request_id, request_digest=digest)
    return JobSubmitted(
        job=f"train-{number}", prepare=f"prepare-{number}", number=number, name=item.name, request_id=item.request_id,
        request_digest=digest, digest=item.digest, size_bytes=item.size_bytes, priority=item.priority,
        origin=item.origin, after=tuple(dict.fromkeys(item.after)), after_any=item.after_any, spec=spec)
