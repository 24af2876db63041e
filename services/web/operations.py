"""What an operation is: its place, what it takes and gives, and how a call of it is checked and answered.

Everything that comes in is judged here, once: token, query, body. What an operation takes and gives are types, from
which the OpenAPI document is made as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple, get_origin, get_type_hints

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.web import guarding, problems
from services.web.problems import RequestError
from services.web.sites import Site
from trainq.errors import TrainqError, UsageError

MAX_BODY_BYTES = 64 * 1024
# Between two pieces of a body.
BODY_SECONDS = 20.0
JSON = "application/json"


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a query; a name that is not known is a mistake."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request's JSON says; a name that is not known is a mistake."""


class Call(NamedTuple):
    """One call of an operation; ``query`` and ``body`` are of the operation's types."""

    site: Site
    request: Request
    query: Any
    body: Any

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])


class Operation(NamedTuple):
    """One method of one path. ``handle`` gives what ``answer`` says, or a response of its own.

    ``media`` is the type of what is given, ``takes`` that of what is sent as the body where that is no JSON.
    ``once``: with the same Idempotency-Key it is done once. ``words`` says what the parameters in the path are.
    """

    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Call], Awaitable[Any]]
    query: type[Query] | None = None
    body: type[Body] | None = None
    answer: Any = None
    status: HTTPStatus = HTTPStatus.OK
    media: str = JSON
    takes: str = ""
    once: bool = False
    private: bool = False
    words: Mapping[str, str] = MappingProxyType({})

    @property
    def needs_token(self) -> bool:
        """Whatever changes something, gives the content of files and logs, or looks through the home does."""
        return self.method != "GET" or self.private

    @property
    def is_stream(self) -> bool:
        return self.media == "text/event-stream"


class Endpoint:
    """All operations of one path, as an ASGI application."""

    def __init__(self, site: Site, operations: Sequence[Operation]) -> None:
        self._site = site
        self._operations = {operation.method: operation for operation in operations}

    @property
    def methods(self) -> list[str]:
        """HEAD is GET without the body; a stream has no other content."""
        heads = [] if all(operation.is_stream for operation in self._operations.values()) else ["HEAD"]
        return [*self._operations, *(heads if "GET" in self._operations else [])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        operation = self._operations["GET" if request.method == "HEAD" else request.method]
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._site.sending.send(await self._answer(operation, request), scope, receive, watched)
        except ClientDisconnect:
            return
        except TrainqError as error:
            if started:
                raise
            await problems.of_error(error)(scope, receive, send)
        except Exception as error:
            self._site.limited.warning("request_failed", method=request.method, path=request.url.path,
                                       error=f"{type(error).__name__}: {error}"[:500])
            if started:
                raise
            await problems.of(HTTPStatus.INTERNAL_SERVER_ERROR, TrainqError.code, "this is a bug of trainq",
                              "please report it with the lines of logs/web.log")(scope, receive, send)

    async def _answer(self, operation: Operation, request: Request) -> Response:
        if operation.needs_token:
            guarding.check_token(request.headers, self._site.token)
        query = _query_of(request, operation.query)
        body = await _body_of(request, operation.body) if operation.body is not None else None
        given = await operation.handle(Call(self._site, request, query, body))
        return given if isinstance(given, Response) else answered(given, operation.status)


def answered(given: Any, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    """``given`` in JSON."""
    return Response(msgspec.json.encode(given), status.value, headers, JSON)


def _query_of(request: Request, kind: type[Query] | None) -> Any:
    kind = kind or Query
    several = {name for name, type_ in get_type_hints(kind).items() if get_origin(type_) is tuple}
    found: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in several:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise UsageError(f"the query names {name} twice", mend="name it once")
        else:
            found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"the query is not understood: {error}", mend="see /openapi.json") from None


async def _body_of(request: Request, kind: type[Body]) -> Any:
    content = await _whole_body(request)
    if content and request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media_type", "the body must be JSON",
                           mend=f"send \"Content-Type: {JSON}\"")
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UsageError(f"the body is not understood: {error}", mend="see /openapi.json") from None


async def _whole_body(request: Request) -> bytes:
    content = b""
    async for chunk in body_chunks(request):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large",
                               f"the body may have {MAX_BODY_BYTES} bytes", headers={"connection": "close"})
    return content


async def body_chunks(request: Request) -> Any:
    """The body, piece by piece; who sends none for long is left.

    Raises:
        RequestError: 408.
        ClientDisconnect: the client has gone.
    """
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "slow", f"nothing of the body came for {BODY_SECONDS:g} s",
                               mend="send it again", headers={"connection": "close"}) from None
        yield chunk
