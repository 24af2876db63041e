"""Lines of a JSONL file, plain or compressed, one by one in bounded memory.

What a file is, is told by its first bytes and never by its name: accepted files are stored under their digest. A line
longer than :data:`MAX_LINE_BYTES` is passed by without being held: only its first :data:`KEPT_BYTES` come out. Whether
a line is a good row is decided elsewhere (:mod:`trainq.samples`).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from trainq import files
from trainq.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINE_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 64 * 1024
BLOCK_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 17

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # RFC 8878, 3.1.2: 0x184D2A50 to 0x184D2A5F, little endian
# What people take for JSON lines, or compress with: by the first bytes of the content.
_OTHER_KINDS = (
    (b"BZh", "bzip2", "bunzip2 it"), (b"\xfd7zXZ\0", "xz", "unxz it"), (b"PK\x03\x04", "a zip archive", "unzip it"),
    (b"PAR1", "Parquet", "write its rows as JSON lines"), (b"SQLite format 3\0", "a database", "export JSON lines"),
    (_GZIP_MAGIC, "compressed twice", "decompress it once"), (_ZSTD_MAGIC, "compressed twice", "decompress it once"),
    (b"{\0", "UTF-16 text, not UTF-8", "save it as UTF-8"), (b"\0{", "UTF-16 text, not UTF-8", "save it as UTF-8"),
    *((mark, "UTF-16 text, not UTF-8", "save it as UTF-8") for mark in _UTF16_MARKS),
)
# A zstd block makes at most 128 KiB out of as little as 4 bytes (RFC 8878, 3.1.1.2): one piece this small cannot
# become more than 32 MiB, whoever made the file.
_ZSTD_PIECE_BYTES = 1024


class Line(NamedTuple):
    """A line without its end. ``number`` counts from 1, blank lines too.

    ``content`` is the whole line, unless ``size_bytes`` (its true length) is above :data:`MAX_LINE_BYTES`: then it is
    only the first :data:`KEPT_BYTES`.
    """

    number: int
    content: bytes
    size_bytes: int

    @property
    def too_long(self) -> bool:
        """Whether the line is above the limit, and so not all here."""
        return self.size_bytes > MAX_LINE_BYTES


def read_lines(path: Path, on_bytes: Callable[[int], None]) -> Iterator[Line]:
    """Every line of ``path`` that is not blank, in order.

    A byte order mark at the start and CRLF line ends are tolerated. ``on_bytes`` gets the number of bytes of the file
    read so far, about once a MiB of the file and at its end; what it raises ends the reading.

    Raises:
        InputError: the file has no rows, is UTF-16 or of another kind, or its compression is damaged or cut short.
            The lines before the damage have been given out by then.
        StorageError: the file cannot be opened or read, which is not its content's fault.
    """
    empty, last = True, 0
    lines = _split(_blocks(path, on_bytes))
    while True:
        try:
            line = next(lines, None)
        except InputError as error:
            raise InputError(error.reason, file=str(path), line=last + 1, mend=error.mend) from error
        if line is None:
            break
        last = line.number
        if line.number == 1:
            _check_kind(path, line)
            line = Line(1, line.content.removeprefix(_BYTE_ORDER_MARK), line.size_bytes)
        if line.content.strip() or line.too_long:
            empty = False
            yield line
    if empty:
        raise InputError("it has no rows", file=str(path), mend="put one JSON object on each line")


def _check_kind(path: Path, first: Line) -> None:
    for magic, kind, mend in _OTHER_KINDS:
        if first.content.startswith(magic):
            raise InputError(f"it is {kind}", file=str(path), line=1, mend=mend)


def _split(blocks: Iterator[bytes]) -> Iterator[Line]:
    number, pieces, size_bytes = 1, list[bytes](), 0
    for block in blocks:
        if not size_bytes and block.endswith(b"\n") and not block.strip():
            number += block.count(b"\n")  # nothing but blank lines, as a bomb has them: a thousand times as fast
            continue
        *ended, rest = block.split(b"\n")
        for piece in ended:
            yield _join(number, [*pieces, piece], size_bytes + len(piece))
            number, pieces, size_bytes = number + 1, [], 0
        size_bytes += len(rest)
        pieces.append(rest)
        if size_bytes > MAX_LINE_BYTES:
            pieces = [b"".join(pieces)[:KEPT_BYTES]]
    if size_bytes:
        yield _join(number, pieces, size_bytes)


def _join(number: int, pieces: list[bytes], size_bytes: int) -> Line:
    content = b"".join(pieces)
    if size_bytes > MAX_LINE_BYTES:
        return Line(number, content[:KEPT_BYTES], size_bytes)
    if content.endswith(b"\r"):
        return Line(number, content[:-1], size_bytes - 1)
    return Line(number, content, size_bytes)


def _blocks(path: Path, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """The decompressed content; errors of the compression become :class:`InputError`, those of the disk do not."""
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb", buffering=0))
            blocks = _decompressed(io.BufferedReader(_Watched(raw, on_bytes), _BUFFER_BYTES))
        except OSError as error:
            raise files.storage_error(error, f"opening {path}") from error
        while True:
            try:
                block = next(blocks, b"")
            except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
                raise InputError(f"its compression is damaged or cut short: {error}", file=str(path),
                                 mend="compress it again, or submit it uncompressed") from error
            except OSError as error:
                raise files.storage_error(error, f"reading {path}") from error
            if not block:
                return
            yield block


class _Watched(io.RawIOBase):
    """A file that says how far it is read, about once a MiB: also where nothing comes out of what is read."""

    def __init__(self, raw: io.FileIO, on_bytes: Callable[[int], None]) -> None:
        self._raw = raw
        self._on_bytes = on_bytes
        self._said = self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        size_bytes = self._raw.readinto(buffer)
        self._position += size_bytes
        if self._position - self._said >= BLOCK_BYTES or not size_bytes:
            self._said = self._position
            self._on_bytes(self._position)
        return size_bytes


def _decompressed(stream: io.BufferedReader) -> Iterator[bytes]:
    magic = stream.peek(4)[:4]
    if magic.startswith(_GZIP_MAGIC):
        return _gunzip(stream)
    if magic == _ZSTD_MAGIC or magic[1:] == _ZSTD_SKIPPABLE:
        return _unzstd(stream)
    return _pieces(stream, BLOCK_BYTES)


def _pieces(stream: io.BufferedReader, size_bytes: int) -> Iterator[bytes]:
    while piece := stream.read(size_bytes):
        yield piece


def _gunzip(stream: io.BufferedReader) -> Iterator[bytes]:
    """Piece by piece, so that what comes before damage comes out."""
    with gzip.GzipFile(fileobj=stream, mode="rb") as unzipped:
        while piece := unzipped.read1(BLOCK_BYTES):
            yield piece


def _unzstd(stream: io.BufferedReader) -> Iterator[bytes]:
    """All frames, one behind the other.

    The library's own stream reader is no use here: it takes the end of the file in the middle of a frame for the end
    of the content.
    """
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    whole, collected, collected_bytes = True, list[bytes](), 0
    for piece in _pieces(stream, _ZSTD_PIECE_BYTES):
        while piece:
            try:
                content = frame.decompress(piece)
            except zstandard.ZstdError:
                if collected:
                    yield b"".join(collected)
                raise
            if content:
                collected.append(content)
                collected_bytes += len(content)
            whole, piece = frame.eof, frame.unused_data
            if frame.eof:
                frame = decompressor.decompressobj()
        if collected_bytes >= BLOCK_BYTES:
            yield b"".join(collected)
            collected, collected_bytes = [], 0
    if collected:
        yield b"".join(collected)
    if not whole:
        raise EOFError("the last frame has no end")
