# ruff: noqa: E501 (a table: what is said stands in one piece)
"""Bad and hostile inputs: how each is made and what it gets, one table for tests and docs/bad-inputs.md.

What stands here is compared letter by letter with what real runs gave (tests/unit/test_bad_inputs.py judges contents,
tests/integration/test_bad_inputs.py drops all of it into a real inbox). The document is written anew by
``PYTHONPATH=shared:. .venv/bin/python tests/hostile_inputs.py > docs/bad-inputs.md``.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import zstandard

ENDINGS = ".jsonl, .ndjson, .jsonl.gz, .jsonl.zst, .ndjson.gz, .ndjson.zst"
HALF_BAD = ("1 of 2 rows are bad (50.0%), which is more than data.max_bad_rows allows (1.0%); "
            "mend these rows, or allow more")
ALL_BAD = HALF_BAD.replace("1 of 2", "1 of 1").replace("50.0%", "100.0%")
DAMAGED = "its compression is damaged or cut short: {} (compress it again, or submit it uncompressed)"
NO_ROWS = "it has no rows (put one JSON object on each line)"
UNREADABLE = "it cannot be opened: Permission denied (check its name and its permissions)"
VANISHED = "it cannot be opened: No such file or directory (check its name and its permissions)"
EMPTY = "it is empty (give a file with at least one row)"

Ending = Literal["trained", "rejected", "refused", "ignored"]


class Content(NamedTuple):
    """Bytes of a file. ``says``: the first bad row (``line:column field: reason (mend)``), else the file's reason."""

    what: str
    make: Callable[[], bytes]
    becomes: Ending
    says: str = ""
    suffix: str = ".jsonl"


class Dropped(NamedTuple):
    """Something in the inbox whose name or kind is the point. ``name`` in bytes; ``make`` puts it at a path."""

    what: str
    name: bytes
    make: Callable[[bytes], None]
    becomes: Ending
    says: str = ""


class Meanwhile(NamedTuple):
    """What happens to a file while its second MiB is read. ``becomes`` says what of it is stored."""

    what: str
    happen: Callable[[Path], None]
    becomes: Literal["old content is stored", "refused"]
    says: str = ""


def good(word: str) -> bytes:
    return json.dumps({"text": word}).encode() + b"\n"


def _plain(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _after_good(line: bytes) -> Callable[[], bytes]:
    """A good row, and the line in question."""
    return lambda: good(f"before {line[:300]!r}") + line


def _zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(content)


def _chat(*turns: object) -> bytes:
    return json.dumps({"messages": turns}).encode()


_ANSWER = {"role": "assistant", "content": "yes"}

CONTENTS = (
    # What looks odd and is right.
    Content("byte order mark", _plain(b"\xef\xbb\xbf" + good("bom")), "trained"),
    Content("CRLF line ends", _plain(b'{"text": "crlf"}\r\n{"text": "crlf 2"}\r\n'), "trained"),
    Content("blank lines", _plain(b"\n\n  \n" + good("blank") + b"\n\n"), "trained"),
    Content("no line end after the last row", _plain(good("no end")[:-1]), "trained"),
    Content("U+2028, U+0085 and emoji in a text", _plain('{"text": "\u2028 \u0085 \U0001f600"}\n'.encode()), "trained"),
    Content("other columns, nested 500 deep", _plain(b'{"text": "deep", "x": ' + b"[" * 500 + b"]" * 500 + b"}\n"),
            "trained"),
    Content("the same row twice", _plain(good("twice") * 2), "trained"),
    Content("gzip", lambda: gzip.compress(good("gzip"), mtime=0), "trained", suffix=".jsonl.gz"),
    Content("gzip of several members", lambda: gzip.compress(good("g1"), mtime=0) + gzip.compress(good("g2"), mtime=0),
            "trained", suffix=".jsonl.gz"),
    Content("gzip under a plain name", lambda: gzip.compress(good("gzip as jsonl"), mtime=0), "trained"),
    Content("plain text under a gzip name", _plain(good("not gzip")), "trained", suffix=".jsonl.gz"),
    Content("zstd of several frames", lambda: _zstd(good("z1")) + _zstd(good("z2")), "trained", suffix=".jsonl.zst"),
    # Lines that are no JSON.
    Content("malformed JSON", _after_good(b"{'text': 'a'}\n"), "rejected",
            "2:2 not valid JSON: unexpected character, expected a string key (write double quotes)"),
    Content("the last line cut short", _after_good(b'{"text": "cut'), "rejected",
            "2:14 not valid JSON: unexpected end of data (correct the line)"),
    Content("a comma too many", _after_good(b'{"text": "a",}\n'), "rejected",
            "2:13 not valid JSON: trailing comma is not allowed (correct the line)"),
    Content("two objects on one line", _after_good(b'{"text": "a"} {"text": "b"}\n'), "rejected",
            "2:15 not valid JSON: unexpected content after document (correct the line)"),
    Content("one object over several lines", _plain(b'{\n  "text": "pretty"\n}\n'), "rejected",
            "1:2 not valid JSON: unexpected end of data (put one JSON object on each line)"),
    Content("CR alone as line end", _plain(b'{"text": "cr"}\r{"text": "cr 2"}\r'), "rejected",
            "1:16 not valid JSON: unexpected content after document (end lines with LF, not with CR alone)"),
    Content("NaN", _after_good(b'{"text": "a", "score": NaN}\n'), "rejected",
            "2:24 NaN is not JSON (write null, or leave the field out)"),
    Content("nested 2,000 deep", _after_good(b'{"text": ' + b"[" * 2000 + b"]" * 2000 + b"}\n"), "rejected",
            "2:1034 not valid JSON: depth limit exceeded (nest it less deeply)"),
    Content("a NUL byte in a line", _after_good(b'{"text": "a\0b"}\n'), "rejected",
            "2:12 not valid JSON: unexpected control character in string (correct the line)"),
    Content("invalid UTF-8", _after_good(b'{"text": "caf\xe9"}\n'), "rejected",
            "2:14 not UTF-8 text (byte 0xe9) (save the file as UTF-8)"),
    Content("half of a surrogate pair", _after_good(b'{"text": "\\ud800"}\n'), "rejected",
            "2:11 not valid JSON: no low surrogate in string (correct the line)"),
    Content("a line of 100 MB", lambda: _zstd(good("before 100 MB") + b'{"text": "' + b"x" * 100_000_000 + b'"}\n'),
            "rejected", "2:1 the line is longer than 16 MiB (split the row)", ".jsonl.zst"),
    # Rows of the wrong shape.
    Content("a list", _after_good(b"[1, 2]\n"), "rejected",
            "2:1 it is a list, not an object (put one JSON object on each line)"),
    Content("null", _after_good(b"null\n"), "rejected",
            "2:1 it is null, not an object (put one JSON object on each line)"),
    Content("a number for a text", _after_good(b'{"text": 5}\n'), "rejected",
            "2:10 text: it is a number, not a string (write a string)"),
    Content("an empty text", _after_good(b'{"text": "  "}\n'), "rejected",
            "2:10 text: it is empty, so there is nothing to learn (fill it, or leave the row out)"),
    Content("a NUL character in a text", _after_good(b'{"text": "a\\u0000b"}\n'), "rejected",
            "2:10 text: it has a NUL character (leave NUL characters out)"),
    Content("columns of another name", _after_good(b'{"question": "a", "answer": "b"}\n'), "rejected",
            "2:1 none of its columns is known: it needs messages or conversations or prompt+completion or instruction+output or text (map its columns to these fields)"),
    Content("a prompt without a completion", _after_good(b'{"prompt": "a"}\n'), "rejected",
            "2:1 the column 'completion' is missing or null (add it, or map another column)"),
    Content("messages that are no list", _after_good(b'{"messages": "hi"}\n'), "rejected",
            "2:14 messages: it is a string, not a list of messages (make it a list)"),
    Content("no message", _after_good(_chat()), "rejected",
            "2:14 messages: no assistant message says anything, so there is nothing to learn (add the answer)"),
    Content("a role that is not known", _after_good(_chat({"role": "bot", "content": "a"}, _ANSWER)), "rejected",
            "2:24 messages[0].role: the role 'bot' is not known (known are: system, user, assistant)"),
    Content("a message without content", _after_good(_chat({"role": "user"}, _ANSWER)), "rejected",
            "2:15 messages[0].content: it is null or absent, not a string (write a string)"),
    Content("a system message behind others", _after_good(_chat(_ANSWER, {"role": "system", "content": "a"})),
            "rejected", "2:65 messages[1].role: a system message stands behind others (put it first, or leave it out)"),
    Content("a row longer than the model's context", _plain(good("long " * 1000)), "rejected",
            "no row is left to train on: of 1, 0 are bad, 1 too long, 0 held out, 0 duplicates; add good rows"),
    # Files that are no JSON lines.
    Content("nothing but blank lines", _plain(b"\n \n\r\n"), "rejected", NO_ROWS),
    Content("a byte order mark alone", _plain(b"\xef\xbb\xbf"), "rejected", NO_ROWS),
    Content("UTF-16", _plain('{"text": "wide"}\n'.encode("utf-16")), "rejected",
            "it is UTF-16 text, not UTF-8 (save it as UTF-8)"),
    Content("CSV", _plain(b"text,label\nhello,1\n"), "rejected",
            "1:1 not valid JSON: invalid literal, expected 'true' (put one JSON object on each line)"),
    Content("Parquet", _plain(b"PAR1\x15\x04\x15\x10\x15\x14PAR1"), "rejected",
            "it is Parquet (write its rows as JSON lines)"),
    Content("a web page", _plain(b"<!DOCTYPE html>\n<html></html>\n"), "rejected",
            "1:1 not valid JSON: unexpected character, expected a JSON value (put one JSON object on each line)"),
    Content("bzip2", lambda: bz2.compress(good("bzip2")), "rejected", "it is bzip2 (bunzip2 it)"),
    Content("gzip cut short", lambda: gzip.compress(good("gzip cut"), mtime=0)[:-5], "rejected",
            "line 2: " + DAMAGED.format("Compressed file ended before the end-of-stream marker was reached"), ".jsonl.gz"),
    Content("gzip with a wrong check sum", lambda: gzip.compress(good("g"), mtime=0)[:-8] + bytes(8), "rejected",
            "line 2: " + DAMAGED.format("CRC check failed 0x0 != 0x5418d61"),
            ".jsonl.gz"),
    Content("gzip in gzip", lambda: gzip.compress(gzip.compress(good("gg"), mtime=0), mtime=0), "rejected",
            "it is compressed twice (decompress it once)",
            ".jsonl.gz"),
    Content("an empty gzip", lambda: gzip.compress(b"", mtime=0), "rejected", NO_ROWS, ".jsonl.gz"),
    Content("zstd cut short", lambda: _zstd(good("zstd cut"))[:-3], "rejected",
            DAMAGED.format("the last frame has no end"), ".jsonl.zst"),
    Content("zstd that wants a window of 2 GiB", _plain(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00a"), "rejected",
            DAMAGED.format("zstd decompressor error: Frame requires too much memory for decoding"),
            ".jsonl.zst"),
    Content("a bomb: 1 GB of one line in 100 kB", lambda: _zstd(b"\0" * 1_000_000_000), "rejected",
            "1:1 the line is longer than 16 MiB (split the row)", ".jsonl.zst"),
    Content("an empty file", _plain(b""), "refused", EMPTY),
)


def _write(path: bytes) -> None:
    with open(path, "wb") as stream:  # noqa: PTH123  # a name in bytes
        stream.write(good(repr(path.rpartition(b"/")[2])))


def _write_read_only(path: bytes) -> None:
    _write(path)
    os.chmod(path, 0o400)  # noqa: PTH101  # a name in bytes


def _link_to_data(path: bytes) -> None:
    target = os.path.dirname(os.path.dirname(path)) + b"/outside.jsonl"  # noqa: PTH120  # a name in bytes
    _write(target)
    os.symlink(target, path)  # noqa: PTH211  # a name in bytes


def _dangling(path: bytes) -> None:
    os.symlink(b"/nowhere/at/all", path)  # noqa: PTH211  # a name in bytes


def _hard_link(path: bytes) -> None:
    other = os.path.dirname(os.path.dirname(path)) + b"/linked.jsonl"  # noqa: PTH120  # a name in bytes
    _write(other)
    os.link(other, path)


def _socket(path: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)


def _folder_of(path: bytes) -> None:
    os.mkdir(path)  # noqa: PTH102  # a name in bytes


def _not_a_file(kind: str) -> str:
    return f"it is a {kind}, not a file; copy the content itself into the inbox"


DROPPED = (
    Dropped("a line end in the name", b"two\nlines.jsonl", _write, "trained"),
    Dropped("ANSI codes in the name", b"\x1b[2J\x1b[31mred.jsonl", _write, "trained"),
    Dropped("bidirectional marks in the name", "\u202egnp.jsonl".encode(), _write, "trained"),
    Dropped("a name that is no UTF-8", b"caf\xe9.jsonl", _write, "trained"),
    Dropped("a name of 255 bytes", b"n" * 249 + b".jsonl", _write, "trained"),
    Dropped("a name like an option", b"--force.jsonl", _write, "trained"),
    Dropped("capitals in the ending", b"CAPITAL.JSONL", _write, "trained"),
    Dropped("a hard link", b"hard.jsonl", _hard_link, "trained"),
    Dropped("a file that is read-only", b"read-only.jsonl", _write_read_only, "trained"),
    Dropped("a symbolic link", b"symbolic.jsonl", _link_to_data, "refused", _not_a_file("symbolic link")),
    Dropped("a symbolic link to nothing", b"dangling.jsonl", _dangling, "refused", _not_a_file("symbolic link")),
    Dropped("a FIFO", b"fifo.jsonl", os.mkfifo, "refused", _not_a_file("FIFO, socket or device")),
    Dropped("a socket", b"s.jsonl", _socket, "refused", _not_a_file("FIFO, socket or device")),
    Dropped("another ending", b"notes.txt", _write, "refused",
            f"its ending is none of {ENDINGS}; trainq reads JSON lines"),
    Dropped("a long name of another ending", b"x" * 251 + b".csv", _write, "refused",
            f"its ending is none of {ENDINGS}; trainq reads JSON lines"),
    Dropped("a hidden name", b".hidden.jsonl", _write, "ignored"),
    Dropped("a name that begins with two dots", b"..dots.jsonl", _write, "ignored"),
    Dropped("a download in progress", b"loading.jsonl.part", _write, "ignored"),
    Dropped("an empty folder", b"folder.jsonl", _folder_of, "ignored"),
)


def _grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(good("more"))


def _shrink(path: Path) -> None:
    os.truncate(path, 10)


def _rewrite(path: Path) -> None:
    size_bytes = path.stat().st_size
    with path.open("r+b") as stream:
        stream.write(b" " * size_bytes)
    # A clock tick may be longer than the test: the time of the write is made another one.
    os.utime(path, ns=(0, 0))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(good("other"))
    other.replace(path)


_CHANGED = "it changed while it was read (submit it when it is whole)"
MEANWHILE = (
    Meanwhile("it grows", _grow, "refused", _CHANGED),
    Meanwhile("it shrinks", _shrink, "refused", _CHANGED),
    Meanwhile("it is overwritten in place", _rewrite, "refused", _CHANGED),
    Meanwhile("another file takes its name", _replace, "old content is stored"),
    Meanwhile("it is removed", Path.unlink, "old content is stored"),
)


def _cell(text: str) -> str:
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in [titles, ("---",) * len(titles), *rows])


def document() -> str:
    """docs/bad-inputs.md."""
    return f"""# Bad inputs, and what each gets

Made from the table in `tests/hostile_inputs.py`, whose every line real runs are held to, letter by letter. Written anew
by `PYTHONPATH=shared:. .venv/bin/python tests/hostile_inputs.py > docs/bad-inputs.md`.

*Trained*: it becomes a job whose good rows are trained. *Rejected*: a job that ends with the reason; its bad rows lie
in `rejected/`. *Refused*: it never becomes a job; it is moved to `rejected/` beside a report, and `trainq submit` says
the reason and exits with 65. *Ignored*: it stays where it is. What is in a file `trainq validate` says beforehand.

## What is in the file

Bad rows as `line:column field: reason (mend)`. In these files one row is bad and one good at most, so that they are
rejected: {HALF_BAD}.

{_table(("content", "becomes", "what is said"), [(entry.what, entry.becomes, entry.says) for entry in CONTENTS])}

## What lies in the inbox

{_table(("what", "becomes", "what is said"), [(entry.what, entry.becomes, entry.says) for entry in DROPPED])}

A file that may not be read is refused: {UNREADABLE}.
One that has vanished before it was taken was never there; named to `trainq submit` it is refused:
{VANISHED}.

10,000 files at once are taken in turns of 100 (measured: 63 s on two shared cores, 45 MiB in the watcher). A file's
size costs no memory but 16 bytes for each different row (measured: 2 GB, 119 MiB). A single line may: up to 80 times its
size while it is parsed, if it is all small objects in one another (16 MiB, the longest that is read: 1.25 GB).

Links are followed where a person names one: `trainq submit` takes what it leads to. What cannot be moved or
looked at (a path over 4,095 bytes, a folder of another owner or without permissions, more than 16 folders deep) stays, and `trainq status` says so; it keeps nobody waiting.

## What happens while a file is read

In the inbox a file that changes is looked at again when it is settled; `trainq submit` refuses it.

{_table(("meanwhile", "becomes", "what is said"), [(entry.what, entry.becomes, entry.says) for entry in MEANWHILE])}
"""


if __name__ == "__main__":
    sys.stdout.write(document())
