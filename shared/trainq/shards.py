"""Shards: tokenised rows on disk, written once in a stream and read by position.

A shard is a sealed directory (:mod:`trainq.manifests`, kind ``shard``) of flat little-endian arrays:

=============== ======= ====================================================================================
``tokens.bin``  uint32  the token ids of all rows, one row behind the other                        [tokens]
``trained.bin`` uint8   1 where the token is a target of the loss                                  [tokens]
``offsets.bin`` int64   where each row starts in the two above, and where the last one ends      [rows + 1]
``digests.bin`` bytes   BLAKE3 of each row's canonical content (32 bytes)                            [rows]
``rows.bin``    int64   the line, counted from 1, at which each row stands in its source file        [rows]
                        (above 2**48: that much less is the line in the replay pack that it comes from)
``report.json``         what became of the rows of the source file
=============== ======= ====================================================================================

Other files may lie beside them; the manifest covers every one. Invariants: the same input gives the same bytes (no
time, path or process goes in); reading a row costs the same wherever it lies; nothing is mapped into memory, because
a truncated file must be an error and not a SIGBUS.
"""

from __future__ import annotations

import array
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainq import files, manifests
from trainq.errors import DamageError, NewerFormatError
from trainq.manifests import Manifest

KIND = "shard"
FORMAT = 1
TOKENS_NAME, TRAINED_NAME, OFFSETS_NAME = "tokens.bin", "trained.bin", "offsets.bin"
DIGESTS_NAME, ROWS_NAME, REPORT_NAME = "digests.bin", "rows.bin", "report.json"
DIGEST_BYTES = 32

# No file has so many lines. Lines above it keep the order of the rows: the file's own, then those of the pack.
REPLAYED = 1 << 48

Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

_TOKEN = np.dtype("<u4")
# An array is made of a list three times as fast as numpy makes one.
_UINT32 = next(code for code in "IL" if array.array(code).itemsize == _TOKEN.itemsize)
_OFFSET = np.dtype("<i8")
_BUFFER_BYTES = 1 << 18


class ShardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest's facts. ``format`` is this module's; ``key`` says of what the shard was made.

    ``codec`` is the digest of the tokenizer and template that made its tokens, so that they are never given to a model
    that has others.
    """

    format: int
    key: str
    context_tokens: int
    rows: int
    tokens: int
    trained_tokens: int
    longest_row_tokens: int
    codec: str = ""


def replayed_line(number: int) -> int:
    """The line of a row that stands in line ``number`` of the replay pack."""
    return REPLAYED + number


def line_words(line: int) -> str:
    """``line 7``, or where a replayed row stands, for people."""
    return f"line {line}" if line <= REPLAYED else f"replayed row {line - REPLAYED}"


def lines_words(lines: Iterable[int]) -> str:
    """``lines [3, 7] of the file``, and the replayed rows among them apart."""
    wanted = sorted(lines)
    own, replayed = [line for line in wanted if line <= REPLAYED], [line - REPLAYED for line in wanted
                                                                   if line > REPLAYED]
    return " and ".join([*([f"lines {own} of the file"] if own else []),
                         *([f"replayed rows {replayed}"] if replayed else [])])


def size_bytes_of(rows: int, tokens: int) -> int:
    """Bytes on disk of a shard's arrays."""
    return (tokens * (_TOKEN.itemsize + 1) + (rows + 1) * _OFFSET.itemsize + rows * (DIGEST_BYTES + _OFFSET.itemsize))


@dataclass(frozen=True, slots=True, eq=False)
class ShardRow:
    """One row: ``token_ids`` and ``trained`` have shape [T]; ``line`` counts from 1 in the source file.

    That of a replayed row is above :data:`REPLAYED` (:func:`replayed_line`).
    """

    token_ids: Int64Array
    trained: BoolArray
    digest: bytes
    line: int


class ShardWriter:
    """Streams rows into a folder given by :func:`trainq.files.publish_directory`; memory does not grow with the rows.

    Call :meth:`seal` once, last, inside the publishing block. Leaving without it only closes the files.
    """

    def __init__(self, folder: Path, *, key: str, context_tokens: int, codec: str = "") -> None:
        self._folder, self._key, self._context_tokens, self._codec = folder, key, context_tokens, codec
        self.rows = self.tokens = self.trained_tokens = self.longest_row_tokens = 0
        with contextlib.ExitStack() as stack:
            self._tokens, self._trained, self._offsets, self._digests, self._lines = (
                stack.enter_context((folder / name).open("xb", buffering=_BUFFER_BYTES))
                for name in (TOKENS_NAME, TRAINED_NAME, OFFSETS_NAME, DIGESTS_NAME, ROWS_NAME))
            self._offsets.write(_int64(0))
            self._streams = stack.pop_all()

    def append(self, token_ids: Sequence[int], trained: Sequence[bool], digest: bytes, line: int) -> None:
        """Add a row behind the others.

        Raises:
            ValueError: the row is empty or longer than the context, the two lengths differ, an id does not fit
                uint32, or the digest has not 32 bytes: a mistake of the caller; nothing was written.
        """
        length = len(token_ids)
        if not 0 < length <= self._context_tokens or len(trained) != length or len(digest) != DIGEST_BYTES:
            raise ValueError(f"line {line}: a row of {length} tokens, {len(trained)} flags and a digest of "
                             f"{len(digest)} bytes does not fit a shard of context {self._context_tokens}")
        try:
            tokens = array.array(_UINT32, token_ids)
        except OverflowError as error:
            raise ValueError(f"line {line}: a token id does not fit uint32") from error
        if sys.byteorder == "big":
            tokens.byteswap()
        flags = bytes(trained)  # True is the byte 1
        self._tokens.write(tokens.tobytes())
        self._trained.write(flags)
        self._digests.write(digest)
        self._lines.write(_int64(line))
        self.rows += 1
        self.tokens += length
        self.trained_tokens += flags.count(1)
        self.longest_row_tokens = max(self.longest_row_tokens, length)
        self._offsets.write(_int64(self.tokens))

    def seal(self, report: bytes) -> Manifest:
        """Close the arrays, write ``report.json``, and put the manifest over everything in the folder."""
        self._streams.close()
        (self._folder / REPORT_NAME).write_bytes(report)
        facts = ShardFacts(format=FORMAT, key=self._key, context_tokens=self._context_tokens, rows=self.rows,
                           tokens=self.tokens, trained_tokens=self.trained_tokens,
                           longest_row_tokens=self.longest_row_tokens, codec=self._codec)
        return manifests.seal(self._folder, KIND, msgspec.to_builtins(facts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._streams.close()


class Shard:
    """A published shard, open for reading. Reads leave no position behind, so forks and threads may share it."""

    def __init__(self, path: Path, manifest: Manifest, facts: ShardFacts, descriptors: dict[str, int]) -> None:
        self.path = path
        self.digest = manifest.digest
        self.facts = facts
        self._descriptors = descriptors

    @classmethod
    def open(cls, path: Path, *, verify: bool) -> Shard:
        """Open the shard at ``path``; with ``verify`` every byte is proven first (reads it all once).

        Without ``verify`` the manifest is still proven, and that each array has the size that the facts ask for.

        Raises:
            DamageError: it is missing, not a shard, of a newer format, or not what its manifest says.
        """
        try:
            manifest = manifests.verify(path, KIND) if verify else manifests.read(path, KIND)
        except NewerFormatError as error:  # a shard can always be made again
            raise DamageError(str(path), error.message, mend="prepare the file again") from error
        try:
            facts = msgspec.convert(manifest.facts, ShardFacts)
        except msgspec.ValidationError as error:
            raise DamageError(str(path), f"the manifest's facts are not those of a shard: {error}") from error
        if facts.format != FORMAT:
            raise DamageError(str(path), f"shard format {facts.format} is not {FORMAT}, the one known here",
                              mend="prepare the file again")
        with contextlib.ExitStack() as undo:
            descriptors: dict[str, int] = {}
            for name, size_bytes in _sizes(facts).items():
                descriptors[name] = _open_array(path / name, size_bytes)
                undo.callback(os.close, descriptors[name])
            undo.pop_all()
        return cls(path, manifest, facts, descriptors)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.facts.rows

    @property
    def tokens(self) -> int:
        """How many tokens all rows have together."""
        return self.facts.tokens

    def report(self) -> bytes:
        """The content of ``report.json``.

        Raises:
            DamageError: it is missing.
        """
        try:
            return (self.path / REPORT_NAME).read_bytes()
        except OSError as error:
            raise DamageError(str(self.path / REPORT_NAME), f"it cannot be read: {error.strerror}") from error

    def lengths(self) -> Int64Array:
        """The number of tokens of each row, shape [rows]. Reads ``offsets.bin`` whole (8 bytes a row)."""
        offsets = np.frombuffer(self._read(OFFSETS_NAME, 0, (self.rows + 1) * _OFFSET.itemsize), dtype=_OFFSET)
        lengths = np.diff(offsets).astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != self.tokens or (lengths <= 0).any():
            raise DamageError(str(self.path / OFFSETS_NAME), "the offsets do not rise from 0 to the number of tokens")
        return lengths

    def row(self, index: int) -> ShardRow:
        """Row ``index``, counted from 0, in constant time.

        Raises:
            IndexError: there is no such row (negative numbers are no row either).
            DamageError: the arrays contradict each other.
        """
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of a shard of {self.rows} rows")
        start, end = np.frombuffer(self._read(OFFSETS_NAME, index * _OFFSET.itemsize, 2 * _OFFSET.itemsize),
                                   dtype=_OFFSET).tolist()
        if not 0 <= start < end <= self.tokens:
            raise DamageError(str(self.path / OFFSETS_NAME), f"row {index} runs from token {start} to {end}")
        length = end - start
        tokens = self._read(TOKENS_NAME, start * _TOKEN.itemsize, length * _TOKEN.itemsize)
        line = self._read(ROWS_NAME, index * _OFFSET.itemsize, _OFFSET.itemsize)
        return ShardRow(
            token_ids=np.frombuffer(tokens, dtype=_TOKEN).astype(np.int64),
            trained=np.frombuffer(self._read(TRAINED_NAME, start, length), dtype=np.uint8) != 0,
            digest=self._read(DIGESTS_NAME, index * DIGEST_BYTES, DIGEST_BYTES),
            line=int.from_bytes(line, "little", signed=True))

    def close(self) -> None:
        """Close the files; the shard cannot be read afterwards. Closing twice is no error."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _read(self, name: str, position: int, size_bytes: int) -> bytes:
        """Exactly ``size_bytes`` at ``position``; one pread gives at most 2 GiB (pread(2)), hence the loop."""
        pieces: list[bytes] = []
        while size_bytes:
            try:
                piece = os.pread(self._descriptors[name], size_bytes, position)
            except OSError as error:
                raise DamageError(str(self.path / name), f"it cannot be read: {error.strerror}") from error
            if not piece:
                raise DamageError(str(self.path / name), f"it ends at byte {position}, {size_bytes} too early")
            pieces.append(piece)
            position, size_bytes = position + len(piece), size_bytes - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _int64(number: int) -> bytes:
    return number.to_bytes(_OFFSET.itemsize, "little", signed=True)


def _sizes(facts: ShardFacts) -> dict[str, int]:
    return {TOKENS_NAME: facts.tokens * _TOKEN.itemsize, TRAINED_NAME: facts.tokens,
            OFFSETS_NAME: (facts.rows + 1) * _OFFSET.itemsize, DIGESTS_NAME: facts.rows * DIGEST_BYTES,
            ROWS_NAME: facts.rows * _OFFSET.itemsize}


def _open_array(path: Path, size_bytes: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if files.is_passing(error):
            raise files.storage_error(error, f"opening {path}") from error
        raise DamageError(str(path), f"it cannot be read: {error.strerror}") from error
    found = os.fstat(descriptor).st_size
    if found != size_bytes:
        os.close(descriptor)
        raise DamageError(str(path), f"it has {found} bytes, the facts of the shard ask for {size_bytes}")
    return descriptor
