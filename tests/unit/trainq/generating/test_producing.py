"""Rows of whatever generator are judged one by one: what is bad is named, and nothing after it comes out."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from trainq.errors import InputError, UsageError
from trainq.generating import producing
from trainq.generating.base import MAX_ROWS, GenerateRequest, chat, provenance

WANTED = GenerateRequest(count=3, level=2, seed=5)


class Changed:
    """Makes numbered rows, the third of them changed."""

    name, version, levels = "changed", "4", 3

    def __init__(self, change: Callable[[dict[str, Any]], Any] = lambda row: row, more: int = 0) -> None:
        self._change, self._more = change, more

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        for index in range(request.count + self._more):
            row = {"messages": chat(f"{index}?", f"{index}!"), "metadata": provenance(self, request, index, "numbers")}
            yield self._change(row) if index == 2 else row


def made(generator: Changed) -> list[bytes]:
    return [row.line for row in producing.rows(generator, WANTED)]


def test_a_line_is_a_row() -> None:
    lines = made(Changed())
    assert all(line.endswith(b"\n") for line in lines)
    assert [orjson.loads(line)["metadata"]["sample_index"] for line in lines] == [0, 1, 2]


def fail(row: dict[str, Any]) -> None:
    row["x"]


@pytest.mark.parametrize(("change", "why"), [
    (lambda row: {**row, "messages": []}, "rows of changed:3:.*nothing to learn"),
    (lambda row: {**row, "metadata": None}, "rows of changed:3: the row has no metadata"),
    (list, "rows of changed:3: the row has no metadata"),
    (lambda row: {**row, "metadata": {**row["metadata"], "seed": 6}}, "changed:3: metadata.seed: it is 6, not 5"),
    (lambda row: {**row, "metadata": {**row["metadata"], "sample_index": "2"}}, "changed:3:.*no sample_index"),
    (lambda row: {**row, "messages": chat("1?", "1!")}, "changed:3: the row was there before"),
    (lambda row: {**row, "more": {1, 2}}, "changed:3: the row cannot be written as JSON"),
    (lambda row: {**row, "messages": chat("\ud800", "a")}, "changed:3: the row cannot be written as JSON"),
    (fail, "changed:3: it has failed: KeyError: 'x'"),
])
def test_a_bad_row_is_named_by_its_line(change: Callable[[dict[str, Any]], Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        made(Changed(change))


@pytest.mark.parametrize(("more", "why"), [(1, "changed:4: it has made more rows than the 3"),
                                           (-1, "changed:2: it has made 2 rows, and 3 were asked for")])
def test_there_are_as_many_as_were_asked_for(more: int, why: str) -> None:
    with pytest.raises(InputError, match=why):
        made(Changed(more=more))


@pytest.mark.parametrize(("request_", "why"), [
    (GenerateRequest(count=0, level=1, seed=1), "the count is 0"),
    (GenerateRequest(count=MAX_ROWS + 1, level=1, seed=1), "the count is"),
    (GenerateRequest(count=1, level=4, seed=1), r"the level is 4 \(changed takes one from 1 to 3\)"),
    (GenerateRequest(count=1, level=0, seed=1), "the level is 0"),
    (GenerateRequest(count=1, level=1, seed=-1), "the seed is -1"),
])
def test_a_request_that_makes_no_sense_is_refused(request_: GenerateRequest, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        next(producing.rows(Changed(), request_))
