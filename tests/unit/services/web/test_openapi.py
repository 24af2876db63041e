"""The OpenAPI document says what the table of operations says."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from services.web import openapi
from services.web.routes import OPERATIONS

# They give a file's content, quote log lines, or look through the whole home.
PRIVATE = ("lineage", "job_lineage", "digest_lineage", "export", "job_logs", "service_logs", "doctor", "retention_plan",
           "evaluation_rows", "suites")
DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(openapi.document(OPERATIONS)))


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()


def test_every_operation_is_in_it_under_a_name_of_its_own() -> None:
    found = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert found == {(operation.path, operation.method) for operation in OPERATIONS}
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    prefix = "#/components/schemas/"
    assert {name.removeprefix(prefix) for name in references(DOCUMENT)} <= set(DOCUMENT["components"]["schemas"])


def test_patterns_are_those_of_javascript() -> None:
    assert "\\Z" not in json.dumps(DOCUMENT)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_what_changes_something_needs_the_token(operation: Any) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert ("security" in described) == (operation.method != "GET" or operation.name in PRIVATE)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_the_parameters_in_a_path_are_described(operation: Any) -> None:
    assert set(operation.words) == {part[1:-1] for part in operation.path.split("/") if "{" in part}
