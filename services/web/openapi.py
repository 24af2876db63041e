"""The OpenAPI 3.1 document, made from the table of operations and the types that they take and give."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from services.web import problems
from services.web.operations import JSON, Operation
from services.web.problems import Problem
from trainq import __version__

_REFERENCE = "#/components/schemas/{name}"
_INFO = """\
Reads are free for whoever reaches this port, which listens on loopback alone. Whatever changes something, the content
of files and logs, and what looks through the whole home need `Authorization: Bearer TOKEN`; TOKEN is in `run/token` of
the home. Errors are `application/problem+json` with `code`, `message` and `mend`."""


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document."""
    kinds = [kind for operation in operations for kind in (operation.query, operation.body, operation.answer)
             if kind is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template=_REFERENCE)
    schema_of = dict(zip(map(id, [*kinds, Problem]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schema_of, components)
    queries = {operation.query.__name__ for operation in operations if operation.query is not None}
    made: dict[str, Any] = _portable({
        "openapi": "3.1.0",
        "info": {"title": "trainq", "version": __version__, "description": _INFO},
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}})
    return made


def _described(operation: Operation, schema_of: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name, "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, components)],
        "responses": {
            str(operation.status.value): {"description": operation.status.phrase, "content": {
                operation.media: {"schema": schema_of.get(id(operation.answer), _content(operation.media))}}},
            "default": {"description": "What is wrong.", "content": {
                problems.MEDIA_TYPE: {"schema": schema_of[id(Problem)]}}}}}
    for extra in _other_answers(operation):
        described["responses"][str(extra.value)] = {
            **described["responses"][str(operation.status.value)], "description": extra.phrase}
    if operation.needs_token:
        described["security"] = [{"token": []}]
    if operation.takes:
        described["requestBody"] = {"required": True, "content": {operation.takes: {"schema": {}}}}
    if operation.once:
        described["parameters"].append({
            "name": "Idempotency-Key", "in": "header", "required": False,
            "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"}})
    if operation.body is not None:
        described["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(operation.body)),
            "content": {JSON: {"schema": schema_of[id(operation.body)]}}}
    return described


def _other_answers(operation: Operation) -> list[HTTPStatus]:
    """Those that have the same content: a duplicate that was submitted, a health that is none."""
    if operation.status is HTTPStatus.CREATED:
        return [HTTPStatus.OK]
    return [HTTPStatus.SERVICE_UNAVAILABLE] if operation.name in ("ready", "service_health") else []


def _content(media: str) -> dict[str, Any]:
    return {} if media == "application/octet-stream" else {"type": "string"}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": words}
            for name, words in operation.words.items()]


def _query_parameters(operation: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = components[operation.query.__name__]
    return [{"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": kind}
            for name, kind in schema["properties"].items()]


def _portable(value: Any) -> Any:
    """Patterns as ECMA 262 has them, which knows no ``\\Z``: its ``$`` lets no line feed pass."""
    match value:
        case dict():
            return {key: item.replace("\\Z", "$") if key == "pattern" and isinstance(item, str) else _portable(item)
                    for key, item in value.items()}
        case list() | tuple():
            return [_portable(item) for item in value]
        case _:
            return value
