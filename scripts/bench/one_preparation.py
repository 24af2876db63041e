"""One run of ``bench.preparing`` in a process of its own: ``python -m bench.one_preparation WAY FILE FOLDER``.

Prints the seconds from the file to tokens on disk, and those within the template and the tokenizer; imports are not
counted. trainq is :func:`trainq.preparing.prepare` as the preparer calls it: digest proven, rows judged, hashed,
duplicates found, template rendered, tokenised, masked, packed, fsynced, sealed by a manifest. The plain loop does what
nobody can leave out: ``orjson.loads``, a look at the fields, the same template and tokenizer, tokens and offsets into
two files.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import zstandard
from tokenizers import Tokenizer

from bench.plain_template import renderer
from trainq import builtin
from trainq.config import DataSettings
from trainq.errors import InputError
from trainq.preparing import Prepared, prepare
from trainq.samples import Sample
from trainq.textcodec import EncodedRow, TextCodec

BATCH_ROWS = 128


class TimedCodec(TextCodec):
    """The real one, which counts the seconds that it takes."""

    seconds = 0.0

    def encode_batch(self, samples: Sequence[Sample], context_tokens: int) -> list[EncodedRow | InputError]:
        started = time.perf_counter()
        try:
            return super().encode_batch(samples, context_tokens)
        finally:
            self.seconds += time.perf_counter() - started


def trainq(source: Path, folder: Path) -> tuple[float, float]:
    codec = TimedCodec.load(builtin.folder())
    assert isinstance(codec, TimedCodec)
    folder.mkdir()
    started = time.perf_counter()
    outcome = prepare(source, codec, DataSettings(), builtin.CONTEXT_TOKENS, folder / "cache", folder / "rejected",
                      "bench", lambda _progress: None)
    seconds = time.perf_counter() - started
    assert isinstance(outcome, Prepared), outcome
    return seconds, codec.seconds


def plain_loop(source: Path, folder: Path) -> tuple[float, float]:
    tokenizer, render = Tokenizer.from_file(str(builtin.folder() / "tokenizer.json")), renderer(builtin.folder())
    folder.mkdir()
    started, encoding = time.perf_counter(), 0.0
    with _opened(source) as lines, (folder / "tokens").open("wb") as tokens, (folder / "offsets").open("wb") as offsets:
        position = 0
        while batch := [_checked(orjson.loads(line)) for line in itertools.islice(lines, BATCH_ROWS)]:
            began = time.perf_counter()
            texts = [row if isinstance(row, str) else render(row) for row in batch]
            encodings = [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]
            encoding += time.perf_counter() - began
            for ids in encodings:
                tokens.write(np.array(ids, dtype=np.uint32).tobytes())
                position += len(ids)
                offsets.write(position.to_bytes(8, "little"))
    return time.perf_counter() - started, encoding


def _checked(row: Any) -> str | list[dict[str, str]]:
    """A text or the messages, if the fields are what they should be."""
    if not isinstance(row, dict):
        raise TypeError("not an object")
    text = row.get("text")
    if isinstance(text, str):
        return text
    messages: list[dict[str, str]] = row["messages"]
    for message in messages:
        if message["role"] not in ("system", "user", "assistant") or not isinstance(message["content"], str):
            raise TypeError("not a message")
    return messages


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    with source.open("rb") as stream:
        if source.suffix != ".zst":
            yield stream
            return
        with zstandard.ZstdDecompressor().stream_reader(stream) as reader:
            yield io.BufferedReader(reader, 1 << 20)


if __name__ == "__main__":
    way = {"trainq": trainq, "plain": plain_loop}[sys.argv[1]]
    print(*way(Path(sys.argv[2]), Path(sys.argv[3])))
