"""Errors as HTTP tells them: ``application/problem+json`` (RFC 9457) with trainq's code, message and mend."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from trainq import errors
from trainq.errors import TrainqError
from trainq.messages import RefusedError

MEDIA_TYPE = "application/problem+json"
# How long to wait before the same is asked again.
_AGAIN_SECONDS = "1"

_STATUS_OF_CODE: Mapping[str, HTTPStatus] = {
    errors.UsageError.code: HTTPStatus.BAD_REQUEST,
    # The broker judges what this process only passes on.
    errors.ProtocolError.code: HTTPStatus.BAD_REQUEST,
    errors.InputError.code: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError.code: HTTPStatus.NOT_FOUND,
    errors.TransitionError.code: HTTPStatus.CONFLICT,
    errors.StaleLeaseError.code: HTTPStatus.CONFLICT,
    errors.RequestReusedError.code: HTTPStatus.CONFLICT,
    errors.SendAgainError.code: HTTPStatus.CONFLICT,
    errors.BrokerUnavailableError.code: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SupervisorUnavailableError.code: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BusyError.code: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFullError.code: HTTPStatus.INSUFFICIENT_STORAGE,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong: ``title`` names the ``status``; ``code`` is for programs, ``message`` and ``mend`` for people."""

    title: str
    status: int
    code: str
    message: str
    mend: str


class RequestError(TrainqError):
    """What only HTTP refuses; ``status`` is its own."""

    exit_code = errors.UsageError.exit_code

    def __init__(self, status: HTTPStatus, code: str, message: str, *, mend: str = "",
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, mend=mend)
        self.status, self.code, self.headers = status, code, headers or {}


def of_error(error: TrainqError) -> Response:
    """The response that tells of ``error``."""
    code = error.refused_code if isinstance(error, RefusedError) else error.code
    headers = dict(error.headers) if isinstance(error, RequestError) else {}
    status = error.status if isinstance(error, RequestError) else _STATUS_OF_CODE.get(
        code, HTTPStatus.INTERNAL_SERVER_ERROR)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("retry-after", _AGAIN_SECONDS)
    return of(status, code, error.message, error.mend, headers)


def of(status: HTTPStatus, code: str, message: str, mend: str = "",
       headers: Mapping[str, str] | None = None) -> Response:
    """A problem by its parts. What is no UTF-8 in them (a file's name) comes escaped."""
    problem = Problem(title=status.phrase, status=status.value, code=code, message=_sendable(message),
                      mend=_sendable(mend))
    return Response(msgspec.json.encode(problem), status.value, dict(headers or {}), MEDIA_TYPE)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
