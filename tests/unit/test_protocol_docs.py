"""docs/protocol.md names every request, reply and event that there is, with the fields that a client must give."""

from __future__ import annotations

import typing

import msgspec
import pytest

from trainq import config, jobs, messages

TEXT = (config.project_root() / "docs" / "protocol.md").read_text()
REQUESTS = typing.get_args(messages.AnyRequest)
REPLIES = typing.get_args(messages.AnyReply)
EVENTS = typing.get_args(jobs.AnyEvent)


@pytest.mark.parametrize("kind", [*REQUESTS, *REPLIES, *EVENTS], ids=lambda kind: kind.__name__)
def test_it_is_named(kind: type[msgspec.Struct]) -> None:
    assert f"`{kind.__name__}" in TEXT


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_what_must_be_given_is_named(kind: type[msgspec.Struct]) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith("|") and f"`{kind.__name__}`" in line.split("|")[1]]
    for field in msgspec.structs.fields(kind):
        if field.required and field.name != "request_id":
            assert f"`{field.name}`" in row, field.name
