"""Suites: fixed rows on which checkpoints are scored, each in a folder of its own, and the digest that locks them.

A suite is a folder with a ``suite.toml`` and files of rows (any format of :mod:`trainq.samples`):

- ``kind = "loss"``: how well a model foresees the rows, as it is trained on them (texts and chats);
- ``kind = "generate"``: chats; the model answers what stands before the last turn, which is the reference, and a
  ``scorer`` (:mod:`trainq.scoring`) says what that is worth.

The digest covers everything that decides a score: the rows with their metadata and order, the kind, the scorer and its
options, how long an answer may be, and, for a scorer that is a program, every other file in the folder and each file
that its command names by a path, wherever it lies. Scores are compared under one digest alone. It does not cover what
is only judged with, or read by people: ``limit`` and ``description``.

Nothing here imports torch. Whoever changes a suite makes another one of it: its scores begin anew.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import orjson
from blake3 import blake3

from trainq import files, manifests, scoring
from trainq.config import PromotionSettings, mapping_faults
from trainq.errors import InputError, NotFoundError, TrainqError, UsageError
from trainq.jsonl import Line, read_lines
from trainq.samples import BadRow, ChatSample, RowJudge, Sample, row_digest
from trainq.scoring import Case, Scorer, command
from trainq.scoring.command import Command
from trainq.suffixes import is_data_name
from trainq.suitefiles import SETTINGS_NAME, files_of_rows, has_settings, read_table, refusing_closed

ROWS_NAME = "rows.jsonl"
# A suite is read as a whole, and scored as a whole each time.
MAX_ROWS = 100_000
_MOST_NAMED_BYTES = 256 * 1024 * 1024
# Goes up when the same rows and settings are to have another digest.
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_DEFAULT_NEW_TOKENS = 256
# What a program leaves behind that has nothing to do with what it gives.
_NO_CONTENT = ("__pycache__",)

Kind: TypeAlias = Literal["loss", "generate"]


class SuiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row; ``place`` says where it stands, for people (``rows.jsonl:3``)."""

    sample: Sample
    metadata: dict[str, Any]
    place: str

    @property
    def digest(self) -> bytes:
        """That of its content, as the preparer has it."""
        return row_digest(self.sample)


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """A suite, read and found good.

    ``limit`` is how far its score may fall before a promotion is refused (in its own unit: a share of 1, or nats a
    token); None if it does not matter. ``scorer`` and ``max_new_tokens`` are of those of kind ``generate``.
    """

    name: str
    path: Path
    digest: str
    kind: Kind
    rows: tuple[SuiteRow, ...]
    scorer: str = ""
    options: dict[str, Any] = {}
    max_new_tokens: int = 0
    limit: float | None = None
    description: str = ""

    def make_scorer(self) -> Scorer:
        """Its scorer; only for those of kind ``generate``."""
        return scoring.make(self.scorer, self.options, self.path)

    def cases(self) -> list[Case]:
        """Its rows as what is scored; only for those of kind ``generate``."""
        return [Case(row=number, prompt=row.sample.messages[:-1], reference=row.sample.messages[-1].content,
                     metadata=row.metadata)
                for number, row in enumerate(self.rows) if isinstance(row.sample, ChatSample)]


class SuiteView(msgspec.Struct, frozen=True, kw_only=True):
    """A suite as it lies there, beside the digest that it is locked to.

    ``state`` is ``new`` (never scored), ``locked``, ``changed`` since, or ``broken``: of such a one only the ``error``
    is known. ``warning``: a good suite that keeps everybody from becoming champion.
    """

    suite: str
    state: Literal["new", "locked", "changed", "broken"]
    locked_to: str
    digest: str = ""
    rows: int = 0
    kind: str = ""
    scorer: str = ""
    limit: float | None = None
    description: str = ""
    error: str = ""
    warning: str = ""


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``suite.toml``."""

    kind: Kind
    scorer: str = ""
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, le=32_768)] | None = None
    limit: Annotated[float, msgspec.Meta(ge=0)] | None = None
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    map: dict[str, str] = {}
    options: dict[str, Any] = {}


def names(folder: Path) -> list[str]:
    """The suites in ``folder``, by name; whether they are good is not looked at.

    Raises:
        StorageError: it cannot be looked into.
    """
    if not folder.is_dir():
        return []
    with files.reported(f"looking into {folder}"):
        return sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name) and has_settings(entry))


def survey(folder: Path, locks: Mapping[str, str], promotion: PromotionSettings) -> list[SuiteView]:
    """All suites in ``folder``, each read as a whole; ``locks`` are the digests by name that the journal has."""
    return [_view(folder / name, locks.get(name, ""), promotion) for name in names(folder)]


def _view(path: Path, locked: str, promotion: PromotionSettings) -> SuiteView:
    try:
        suite = load(path)
    except TrainqError as error:
        return SuiteView(suite=path.name, state="broken", locked_to=locked, error=str(error))
    return SuiteView(suite=suite.name, state="locked" if locked == suite.digest else "changed" if locked else "new",
                     locked_to=locked, digest=suite.digest, rows=len(suite.rows), kind=suite.kind, scorer=suite.scorer,
                     limit=suite.limit, description=suite.description, warning=_warning(suite, promotion))


def _warning(suite: Suite, promotion: PromotionSettings) -> str:
    """What of few rows never passes (:mod:`trainq.promoting`); empty if nothing hangs on it."""
    few, least = len(suite.rows), promotion.min_rows
    decides = suite.name in promotion.suites
    if promotion.mode == "off" or few >= least or not (decides or suite.limit is not None):
        return ""
    follows, mend = ("nothing it shows makes a champion", " or lower that") if suite.limit is None else (
        "no other checkpoint becomes champion", ", lower that, or take its limit out")
    return (f"{few} rows are fewer than [promotion] min_rows, {least}: {follows} (give it more rows{mend})")


def load(path: Path) -> Suite:
    """Read the suite in the folder ``path``, whose last part is its name.

    Raises:
        NotFoundError: there is none.
        InputError: something in it is not as it must be, or may not be read: file, line, field, reason and mend.
        StorageError: it could not be read, which is not its fault.
    """
    with refusing_closed(path):
        return _load(path)


def _load(path: Path) -> Suite:
    if not has_settings(path):
        raise NotFoundError(f"there is no suite {path.name}: {path} has no {SETTINGS_NAME}",
                            mend="see the guide, Evaluation suites")
    if not _NAME.fullmatch(path.name):
        raise InputError("its name has other characters than letters, digits, '.', '_' and '-'", file=str(path),
                         mend="rename the folder")
    settings = _read_settings(path / SETTINGS_NAME)
    _check_settings(settings, path)
    rows = _judged(_lines(path), settings)
    others = _digests_of_program(path, settings) if settings.scorer == Command.name else {}
    return Suite(
        name=path.name, path=path, digest=_digest(settings, rows, others), kind=settings.kind, rows=tuple(rows),
        scorer=settings.scorer, options=settings.options, max_new_tokens=_new_tokens(settings), limit=settings.limit,
        description=settings.description)


def write(path: Path, rows: Iterable[Mapping[str, Any]], *, kind: Kind, scorer: str = "",
          options: Mapping[str, Any] | None = None, max_new_tokens: int | None = None, limit: float | None = None,
          description: str = "") -> Suite:
    """Publish a suite with these rows, as they would stand in a file; all of it, or nothing.

    A row that was there before is left out. A suite that is there already with the same digest is taken as it is. Not
    for scorers that are a program: that lies in the folder, too.

    Args:
        path: where; the last part is its name.
        rows: of any format of :mod:`trainq.samples`.
        kind, scorer, options, max_new_tokens, limit, description: see :class:`Suite`.

    Raises:
        UsageError: another suite is there, which is never changed.
        InputError: it would be no good suite; nothing is published.
        StorageError, StorageFullError: the disk.
    """
    settings = _Settings(kind=kind, scorer=scorer, options=dict(options or {}), max_new_tokens=max_new_tokens,
                         limit=limit, description=description)
    _check_settings(settings, path)
    lines = list(dict.fromkeys(orjson.dumps(row) for row in rows))
    read = [(path / ROWS_NAME, Line(number, line, len(line))) for number, line in enumerate(lines, 1)]
    judged = _judged(read, settings, leave_out_doubles=True)
    kept = {row.place for row in judged}
    if path.exists():
        if load(path).digest != _digest(settings, judged, {}):
            raise UsageError(f"there is another suite {path.name} already",
                             mend="a suite is never changed: give this one another name")
        return load(path)
    files.make_directory(path.parent)
    with files.publish_directory(path) as folder:
        files.write_file(folder / SETTINGS_NAME, _as_toml(settings))
        files.write_file(folder / ROWS_NAME, b"".join(line.content + b"\n" for file, line in read
                                                      if _place(file, line) in kept))
    return load(path)


def _read_settings(path: Path) -> _Settings:
    table = read_table(path)
    for key in sorted(table.keys() - set(_Settings.__struct_fields__)):
        near = difflib.get_close_matches(key, _Settings.__struct_fields__, n=1)
        raise InputError("no such setting", file=str(path), field=key, mend=f"did you mean {near[0]}?" if near
                         else f"known are: {', '.join(_Settings.__struct_fields__)}")
    try:
        return msgspec.convert(table, _Settings)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$.")
        raise InputError(reason, file=str(path), field=field.rstrip("`"), mend="correct it") from error


def _check_settings(settings: _Settings, path: Path) -> None:
    """Refuse settings that cannot be together, a scorer that is none, and columns that cannot be."""
    file = str(path / SETTINGS_NAME)
    for field, problem, mend in mapping_faults(settings.map):
        raise InputError(problem, file=file, field=f"map.{field}", mend=mend)
    if settings.kind == "loss":
        for field in ("scorer", "options", "max_new_tokens"):
            if getattr(settings, field) not in ("", {}, None):
                raise InputError('a suite of kind "loss" has none', file=file, field=field, mend="take it out")
        return
    if not settings.scorer:
        raise InputError("it is missing", file=file, field="scorer",
                         mend=f"say what the answers are worth: {', '.join(scoring.names())}")
    try:
        scoring.make(settings.scorer, settings.options, path)
    except InputError as error:
        raise InputError(error.reason, file=file, field=error.field, mend=error.mend) from error


def _new_tokens(settings: _Settings) -> int:
    return 0 if settings.kind == "loss" else settings.max_new_tokens or _DEFAULT_NEW_TOKENS


def _lines(path: Path) -> Iterator[tuple[Path, Line]]:
    """The lines of all files of rows, in the order of their names."""
    named = files_of_rows(path)
    if not named:
        raise InputError("there is no file of rows in it", file=str(path), mend=f"put a {ROWS_NAME} beside "
                         f"{SETTINGS_NAME}")
    for file in named:
        yield from ((file, line) for line in read_lines(file, lambda _: None))


def _judged(lines: Iterable[tuple[Path, Line]], settings: _Settings, *,
            leave_out_doubles: bool = False) -> list[SuiteRow]:
    """The rows, each found good; one that is twice would count twice."""
    judge = RowJudge(settings.map)
    rows: list[SuiteRow] = []
    seen: dict[bytes, str] = {}
    for file, line in lines:
        row = _judged_row(judge, file, line, settings.kind)
        first = seen.setdefault(row.digest, row.place)
        if first == row.place:
            rows.append(row)
        elif not leave_out_doubles:
            raise InputError(f"the same row stands in {first}", file=str(file), line=line.number, mend="take one out")
        if len(rows) > MAX_ROWS:
            raise InputError(f"the suite has more than {MAX_ROWS} rows", file=str(file), line=line.number,
                             mend="take a part of them: an interval of a tenth of a per cent needs no more")
    if not rows:
        raise InputError("the suite has no rows", file=ROWS_NAME, mend="put one JSON object on each line")
    return rows


def _judged_row(judge: RowJudge, file: Path, line: Line, kind: Kind) -> SuiteRow:
    verdict = judge.judge(line)
    if isinstance(verdict, BadRow):
        raise InputError(verdict.reason, file=str(file), line=verdict.line, column=verdict.column,
                         field=verdict.field, mend=verdict.mend)
    if kind == "generate":
        reason = _unanswerable(verdict)
        if reason:
            raise InputError(reason, file=str(file), line=line.number,
                             mend="end it with a user's turn and the right answer to it")
    metadata = orjson.loads(line.content).get("metadata")
    return SuiteRow(sample=verdict, metadata=metadata if isinstance(metadata, dict) else {}, place=_place(file, line))


def _unanswerable(sample: Sample) -> str:
    """Why a model cannot be asked the row; empty if it can."""
    if not isinstance(sample, ChatSample):
        return "it is a text, which asks nothing"
    *prompt, last = sample.messages
    if last.role != "assistant" or not last.content.strip():
        return "its last turn is no answer, so there is nothing to compare with"
    return "" if prompt and prompt[-1].role == "user" else "nobody asks anything before its last turn"


def _place(file: Path, line: Line) -> str:
    return f"{file.name}:{line.number}"


def _digest(settings: _Settings, rows: Sequence[SuiteRow], others: Mapping[str, str]) -> str:
    hasher = blake3()
    for row in rows:
        hasher.update(row.digest)
        if settings.kind == "generate":  # a scorer may look at it
            hasher.update(blake3(orjson.dumps(row.metadata, option=orjson.OPT_SORT_KEYS)).digest())
    parts = {"suite": _FORMAT, "kind": settings.kind, "rows": hasher.hexdigest(), "scorer": settings.scorer,
             "options": settings.options, "max_new_tokens": _new_tokens(settings), "files": others}
    return manifests.digest_bytes(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))


def _digests_of_others(path: Path) -> dict[str, str]:
    """What lies in the folder besides settings and rows, for whatever a program reads of it decides a score."""
    found = {}
    for entry in sorted(files.list_tree(path)):
        parts = entry.relative_to(path).parts
        if any(part.startswith(".") or part in _NO_CONTENT for part in parts):
            continue
        if len(parts) == 1 and (parts[0] == SETTINGS_NAME or is_data_name(parts[0])):
            continue
        try:
            found["/".join(parts)] = manifests.digest_file(entry)
        except OSError as error:
            raise files.storage_error(error, f"reading {entry}") from error
    return found


def _digests_of_program(path: Path, settings: _Settings) -> dict[str, str]:
    """What decides the scores of a program, besides its rows: what lies in the folder, and what its command names."""
    found = _digests_of_others(path)
    known = {path / name for name in found}
    for name, file in command.named_files(settings.options, path):
        if file in known:
            continue
        if file.stat().st_size > _MOST_NAMED_BYTES:
            raise InputError(f"the file {name!r} is larger than {_MOST_NAMED_BYTES >> 20} MiB, which is too "
                             "much to be read each time", file=str(path / SETTINGS_NAME), field="options.command",
                             mend="name a smaller one, or have the program read it without being told")
        with files.reported(f"reading {file}"):
            found[f"named {name}"] = manifests.digest_file(file)
    return found


def _as_toml(settings: _Settings) -> bytes:
    lines = [f"{key} = {_toml_value(value)}" for key in _Settings.__struct_fields__
             if key not in ("map", "options") and (value := getattr(settings, key)) not in ("", None)]
    if settings.options:
        lines += ["", "[options]", *(f"{_toml_value(key)} = {_toml_value(value)}"
                                     for key, value in settings.options.items())]
    return "".join(f"{line}\n" for line in lines).encode()


def _toml_value(value: object) -> str:
    """A string, number, boolean or list of such: JSON, but for DEL, is TOML (https://toml.io/en/v1.0.0#string)."""
    return orjson.dumps(value).decode().replace("\x7f", "\\u007f")
