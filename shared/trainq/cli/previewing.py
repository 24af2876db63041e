"""``trainq preview``: the first rows of a file as the model will see them, in its template, what is trained marked.

Rows are read and encoded by the preparer's code. What is trained is in colour; where there are none, between ``[[`` and
``]]``.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trainq.cli import arguments as types
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.config import Settings
from trainq.errors import InputError

if TYPE_CHECKING:
    from trainq.samples import Row
    from trainq.textcodec import TextCodec

DEFAULT_ROWS = 3
BEGIN, END = "[[", "]]"


class Piece(NamedTuple):
    """A stretch of a row's text, all of which is trained, or nothing."""

    text: str
    trained: bool


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A row: its pieces, at most as long as the model takes them; or why it is bad.

    ``fate`` is ``trained``, ``held_out``, ``dropped_long`` or ``rejected``; duplicates and the rows of suites are not
    looked for. ``truncated``: it is cut to the window.
    """

    line: int
    fate: str
    tokens: int = 0
    trained_tokens: int = 0
    truncated: bool = False
    pieces: tuple[Piece, ...] = ()
    reason: str = ""
    mend: str = ""


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=types.text, metavar="FILE", help="a file of rows, as for trainq submit")
    parser.add_argument("--rows", type=types.positive, default=DEFAULT_ROWS, metavar="N",
                        help=f"show the first N rows (default {DEFAULT_ROWS})")
    parser.add_argument("--map", type=types.column_map, metavar="FIELD=COLUMN,...",
                        help="which column holds which field: prompt=question,completion=answer")


def _run(arguments: Namespace, context: Context) -> int:
    settings = context.configuration.settings
    if arguments.map is not None:
        settings = msgspec.structs.replace(settings, data=msgspec.structs.replace(settings.data, map=arguments.map))
    path = Path(arguments.file)
    if not path.is_file():
        raise InputError("it is not a file", file=arguments.file, mend="name a file of rows")
    rows = []
    for shown in _shown(path, settings, arguments.rows):
        rows.append(shown)
        if not context.console.json:
            for line in _lines(shown, context.console, is_first=len(rows) == 1):
                context.console.line(line)
    if context.console.json:
        context.console.emit({"file": arguments.file, "rows": [_document(each) for each in rows]})
    elif not rows:
        context.console.say("it has no row")
    return 0


def _shown(path: Path, settings: Settings, most: int) -> Iterator[Shown]:
    """The first rows of the file, one by one.

    Raises:
        InputError: the file is damaged, or there is no tokenizer.
    """
    from itertools import islice

    from trainq.modelfolder import context_tokens, model_folder
    from trainq.samples import read_rows
    from trainq.textcodec import TextCodec

    folder = model_folder(settings.model.path)
    codec, most_tokens = TextCodec.load(folder), context_tokens(folder)
    for row in islice(read_rows(path, settings.data.map, lambda _: None), most):
        yield show(row, codec, settings, most_tokens)


def show(row: Row, codec: TextCodec, settings: Settings, most_tokens: int) -> Shown:
    """What the model will see of a row."""
    from trainq.rowjudging import is_held_out
    from trainq.samples import BadRow, row_digest

    line = row.line.number
    if isinstance(row.verdict, BadRow):
        return Shown(line=line, fate="rejected", reason=row.verdict.reason, mend=row.verdict.mend)
    encoded = codec.encode_batch([row.verdict], most_tokens)[0]
    if isinstance(encoded, InputError):
        return Shown(line=line, fate="rejected", reason=encoded.reason, mend=encoded.mend)
    flags, ids = encoded.trained[:most_tokens], encoded.token_ids[:most_tokens]
    too_long = not encoded.whole or len(encoded.token_ids) > most_tokens
    pieces = tuple(Piece(codec.decode([token for token, _ in pairs], with_specials=True), trained)
                   for trained, pairs in groupby(zip(ids, flags, strict=True), key=lambda pair: pair[1]))
    fate = "trained"
    if not any(encoded.trained) and encoded.whole:
        fate = "rejected"
    elif too_long and (settings.data.long_rows == "drop" or not any(flags)):
        fate = "dropped_long"
    elif is_held_out(row_digest(row.verdict), settings.data.held_out_fraction):
        fate = "held_out"
    return Shown(line=line, fate=fate, tokens=len(ids), trained_tokens=sum(flags), truncated=too_long, pieces=pieces,
                 reason="nothing in it is trained" if fate == "rejected" else "")


def _lines(shown: Shown, console: Console, *, is_first: bool) -> Iterator[str]:
    """A row for people."""
    if not is_first:
        yield ""
    if not shown.pieces:
        yield console.paint(printable(f"line {shown.line}: {shown.reason} ({shown.mend})"), "bad")
        return
    said = {"trained": "", "held_out": ", held out", "dropped_long": ", too long: left out",
            "rejected": f": {shown.reason}"}[shown.fate]
    cut = ", cut to the window" if shown.truncated and shown.fate == "trained" else ""
    yield console.paint(f"line {shown.line}: {shown.tokens} tokens, {shown.trained_tokens} of them trained{cut}{said}",
                        "strong")
    text = ""
    for piece in shown.pieces:
        for at, part in enumerate(piece.text.split("\n")):
            if at:
                yield text
                text = ""
            text += _marked(printable(part), console) if piece.trained and part else printable(part)
    if text:
        yield text


def _marked(text: str, console: Console) -> str:
    return console.paint(text, "good") if console.colour else f"{BEGIN}{text}{END}"


def _document(shown: Shown) -> dict[str, Any]:
    return {**msgspec.to_builtins(shown), "pieces": [{"text": piece.text, "trained": piece.trained}
                                                     for piece in shown.pieces]}


COMMANDS = {"preview": Command(_configure, _run)}
