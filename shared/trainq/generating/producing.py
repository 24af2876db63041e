"""The rows of a generated file: what a generator gives, judged row by row as the preparer will, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from trainq.errors import InputError, TrainqError, UsageError
from trainq.generating.base import MAX_ROWS, MAX_SEED, GenerateRequest, Generator
from trainq.jsonl import Line
from trainq.samples import BadRow, RowJudge, Sample, row_digest

# Enough of a digest: two of 100,000 different rows share it in one file of 10**28.
_DIGEST_BYTES = 16


class Produced(NamedTuple):
    """A good row: its line, with the line feed, and what it says."""

    line: bytes
    sample: Sample


def rows(generator: Generator, request: GenerateRequest) -> Iterator[Produced]:
    """The file's rows.

    Raises:
        UsageError: the request makes no sense, or has an option that the generator does not know.
        InputError: the generator cannot make so many rows, or one of its rows is bad: ``line`` says which.
    """
    refuse(generator, request)
    judge, seen, number = RowJudge({}), set[bytes](), 0
    try:
        for row in generator.rows(request):
            number += 1
            if number > request.count:
                raise _bad(generator, number, f"it has made more rows than the {request.count} that were asked for")
            content = _encoded(generator, request, row, number)
            verdict = judge.judge(Line(number, content, len(content)))
            if isinstance(verdict, BadRow):
                raise _bad(generator, number, verdict.reason, field=verdict.field, column=verdict.column,
                           mend=verdict.mend)
            digest = row_digest(verdict)[:_DIGEST_BYTES]
            if digest in seen:
                raise _bad(generator, number, "the row was there before", mend="each row may be there once")
            seen.add(digest)
            yield Produced(content + b"\n", verdict)
    except TrainqError:
        raise
    except Exception as error:  # a plug-in may fail with anything, and it is no fault of this process
        raise _bad(generator, number + 1, f"it has failed: {type(error).__name__}: {error}") from error
    if number < request.count:
        raise _bad(generator, number, f"it has made {number} rows, and {request.count} were asked for")


def refuse(generator: Generator, request: GenerateRequest) -> None:
    """Raise :class:`UsageError` for a request that no rows can come from."""
    for name, number, low, high in (("count", request.count, 1, MAX_ROWS), ("seed", request.seed, 0, MAX_SEED),
                                    ("level", request.level, 1, generator.levels)):
        if not low <= number <= high:
            raise UsageError(f"the {name} is {number}", mend=f"{generator.name} takes one from {low} to {high}")


def _encoded(generator: Generator, request: GenerateRequest, row: dict[str, Any], number: int) -> bytes:
    metadata = row.get("metadata") if isinstance(row, dict) else None
    if not isinstance(metadata, dict):
        raise _bad(generator, number, "the row has no metadata", mend="put in what base.provenance makes")
    for name, wanted in (("generator", generator.name), ("generator_version", generator.version),
                         ("level", request.level), ("seed", request.seed)):
        if metadata.get(name) != wanted:
            raise _bad(generator, number, f"it is {metadata.get(name)!r}, not {wanted!r}", field=f"metadata.{name}")
    if type(metadata.get("sample_index")) is not int or not isinstance(metadata.get("dataset"), str):
        raise _bad(generator, number, "the metadata has no sample_index or no dataset", field="metadata")
    try:
        return orjson.dumps(row)
    except orjson.JSONEncodeError as error:
        raise _bad(generator, number, f"the row cannot be written as JSON: {error}") from error


def _bad(generator: Generator, line: int, reason: str, *, field: str = "", column: int = 0,
         mend: str = "") -> InputError:
    return InputError(reason, file=f"rows of {generator.name}", line=line, column=column, field=field, mend=mend)
