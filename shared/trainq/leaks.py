"""Which rows may not be trained because the model is measured by them: an index of the rows of evaluation suites.

Two texts count as the same when they are equal once normalised: NFKC, case folded, with every stretch of white space,
quotes, brackets and ``. , ; : ! ?`` made one space. What decides what is to be calculated stays: digits, the signs of
arithmetic, ``.`` and ``,`` between digits, parentheses beside a digit or a sign. A row of a suite is found again by

* the whole of it: the contents of all its turns, one behind the other, whoever says them;
* its question: the contents of all its user turns before the last answer. System turns are left out, because they are
  the same in many rows. A question is compared as a whole, so that puzzles with the same instructions and other words
  in them are different questions. A short one ("Hi!", :data:`_SHORTEST_TURN`) many rows ask that have nothing to do
  with the suite: such a row is found by the whole of it only.

A training row is looked up by the whole of it, by what the user has said before each of its answers, and by each user
turn of some length alone, so that a question is found behind others. Texts are looked up by the whole of them only.
Keys are the first 16 bytes of BLAKE3.

Suites of files' held-out rows (:func:`trainq.jobs.is_of_files`) are left out: their rows are held out by their digests
in every file, and with them each file would be prepared with an index of its own.

The index is a file of its own, stored under its digest: a shard made again is judged by the suites of the first time.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
from blake3 import blake3

from trainq import files, suitefiles
from trainq.errors import DamageError, InputError, StorageError
from trainq.jobs import is_of_files
from trainq.manifests import digest_file
from trainq.samples import BadRow, ChatSample, Sample, read_rows

FORMAT = 2
KEY_BYTES = 16
# What is asked in fewer bytes ("Hi!", "Go on.", "And 12?") says nothing of where it comes from.
_SHORTEST_TURN = 40
# Combining marks are sorted one by one, and a text of nothing else takes the square of its length: a megabyte of them
# takes hours. Pieces that are cut behind white space are normalised as the whole is; longer words no person writes.
_PIECES = re.compile(r"(?s:.{0,255}\s|.{1,256})")
_PARTS = re.compile(r"[\s.,;:!?\"'()\[\]{}\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026`]+")
# Of these, what stays: 3.5 is not 3 5, and 8 - (3 - 2) is not 8 - 3 - 2. Each looks at most two characters around.
_SIGN = r"[\d+\-*/^=<>%\u00b7\u00d7\u00f7\u2013\u2212]"
_STAYING = re.compile(rf"[.,()](?:(?<=\d[.,])(?=\d)|(?<={_SIGN}[()])|(?<={_SIGN} [()])|(?<=[()])(?= ?{_SIGN})"
                      r"|(?<=\)\))|(?<=\()(?=\())")
# Stand for them meanwhile.
_SET_ASIDE = {".": "\x01", ",": "\x02", "(": " \x03 ", ")": " \x04 "}
_PUT_BACK = bytes.maketrans(b"\x01\x02\x03\x04", b".,()")
# The ASCII among the parts, as spaces, and what was set aside as it was.
_ASCII_PARTS = bytes(ord(" ") if _PARTS.fullmatch(chr(byte)) else byte for byte in range(256)).translate(_PUT_BACK)


class Place(NamedTuple):
    """Where a row of a suite stands; ``line`` counts from 1."""

    suite: str
    file: str
    line: int


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    suites: dict[str, str]


def normalised(text: str) -> bytes:
    """The text as it is compared, in UTF-8."""
    is_ascii = text.isascii()
    if not is_ascii:
        text = "".join([unicodedata.normalize("NFKC", piece) for piece in _PIECES.findall(text)])
    plain = text.casefold()
    if "(" in plain or ")" in plain:  # whether a sign is beside it must not hang on how much space there is
        plain = " ".join(plain.split())
    plain = _STAYING.sub(lambda found: _SET_ASIDE[found[0]], plain)
    if is_ascii:  # the same, ten times as fast
        return b" ".join(plain.encode().translate(_ASCII_PARTS).split())
    return _PARTS.sub(" ", plain).strip().encode("utf-8", "surrogatepass").translate(_PUT_BACK)


def whole_key(sample: Sample) -> bytes:
    """The key of all that a sample says."""
    return _key(b"whole", _texts(sample))


def _texts(sample: Sample) -> list[bytes]:
    """What each turn says, or the text."""
    if isinstance(sample, ChatSample):
        return [normalised(message.content) for message in sample.messages]
    return [normalised(sample.text)]


def _key(sort: bytes, texts: list[bytes]) -> bytes:
    # One space between the parts, as inside of them: where a turn ends does not matter.
    return blake3(sort + b"|" + b" ".join(filter(None, texts))).digest()[:KEY_BYTES]


def _guarded_keys(sample: Sample) -> Iterator[bytes]:
    yield whole_key(sample)
    if isinstance(sample, ChatSample):
        last = max(at for at, message in enumerate(sample.messages) if message.role == "assistant")
        asked = [normalised(message.content) for message in sample.messages[:last] if message.role == "user"]
        if len(b" ".join(filter(None, asked))) >= _SHORTEST_TURN:
            yield _key(b"question", asked)


def _looked_up(sample: Sample) -> Iterator[bytes]:
    texts = _texts(sample)
    yield _key(b"whole", texts)
    if not isinstance(sample, ChatSample):
        return
    # What was asked so far, as _key has it: joined anew for each answer, it would grow with the square of the turns.
    asked, turns, last = blake3(b"question|"), 0, b""
    for message, text in zip(sample.messages, texts, strict=True):
        if message.role == "user" and text:
            asked.update(b" " + text if turns else text)
            turns, last = turns + 1, text
        elif message.role == "assistant" and turns:
            yield asked.copy().digest()[:KEY_BYTES]
            if turns > 1 and len(last) >= _SHORTEST_TURN:
                yield _key(b"question", [last])


class LeakIndex:
    """The rows of all suites by their keys. ``suites`` has the digest of the content of each."""

    def __init__(self, suites: dict[str, str], places: dict[bytes, Place]) -> None:
        self.suites, self._places = suites, places

    def rows(self) -> dict[str, int]:
        """How many different rows each suite has."""
        return dict(sorted(Counter(place.suite for place in set(self._places.values())).items()))

    def find(self, sample: Sample) -> Place | None:
        """Where a row of a suite stands that says or asks the same; None if there is none."""
        return next((place for key in _looked_up(sample) if (place := self._places.get(key)) is not None), None)

    def content(self) -> bytes:
        """The index as it is stored; the same suites give the same bytes."""
        header = orjson.dumps({"format": FORMAT, "suites": self.suites}, option=orjson.OPT_SORT_KEYS)
        return b"\n".join([header, *(orjson.dumps([key.hex(), *place]) for key, place in sorted(self._places.items()))
                           ]) + b"\n"

    @classmethod
    def of_content(cls, content: bytes, name: str) -> LeakIndex:
        """The index of stored bytes; ``name`` is for the error.

        Raises:
            DamageError: they are none.
        """
        try:
            first, *lines = content.splitlines()
            header = msgspec.json.decode(first, type=_Header)
            entries = [msgspec.json.decode(line, type=tuple[str, str, str, int]) for line in lines]
            if header.format != FORMAT:
                raise DamageError(name, f"format {header.format} of an index of suites is not {FORMAT}, known here")
            return cls(header.suites, {bytes.fromhex(key): Place(suite, file, line)
                                       for key, suite, file, line in entries})
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise DamageError(name, f"it is no index of suites: {error}") from error


@dataclass(frozen=True, slots=True)
class Guarded:
    """What was read of a folder of suites: the index, None if no suite has a row.

    ``unread`` says why of some suites nothing is guarded, or not all.
    """

    index: LeakIndex | None
    unread: dict[str, str]


class _Stamp(NamedTuple):
    """What tells, without reading it, whether a file has changed."""

    path: Path
    inode: int
    size_bytes: int
    modified_ns: int
    # Of what may be read by whom, too.
    changed_ns: int


class _Found(NamedTuple):
    """A suite's folder as it lies there; ``closed`` says why it could not be looked into, if that is so."""

    folder: Path
    settings: _Stamp | None
    files: tuple[_Stamp, ...]
    closed: str


class _Read(NamedTuple):
    """What was read of a file."""

    digest: str
    keys: tuple[tuple[bytes, Place], ...]


class SuitesReader:
    """Reads the suites below a folder, each file again only when it has changed.

    A suite's rows lie in every file that is one of rows by its name, and come under the columns that its
    ``suite.toml`` maps, as whoever scores it reads them; a folder without settings is guarded, too. A line that is no
    row is passed over, as is what follows damage, or may not be read: the evaluator refuses such a suite. So is what
    goes away meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: list[_Found] | None = None
        self._files: dict[tuple[_Stamp, tuple[tuple[str, str], ...]], _Read] = {}
        self._guarded = Guarded(None, {})

    def read(self) -> Guarded:
        """The suites as they are now; the same object as before if nothing has changed.

        Raises:
            StorageError: something cannot be read.
        """
        found = _survey(self._folder)
        if found != self._found:
            self._guarded = self._read_anew(found)
            self._found = found
        return self._guarded

    def _read_anew(self, found: list[_Found]) -> Guarded:
        before, self._files = self._files, {}
        suites: dict[str, str] = {}
        places: dict[bytes, Place] = {}
        unread: dict[str, str] = {}
        for each in found:
            name, rows, closed = _shown(each.folder.name), 0, [each.closed] if each.closed else []
            with _unless_gone():
                columns: tuple[tuple[str, str], ...] = ()
                with _noting(closed, each.folder):
                    columns = tuple(sorted(suitefiles.mapping_of(each.folder).items()))
                told: list[object] = [columns]
                for stamp in each.files:
                    with _unless_gone(), _noting(closed, each.folder):
                        read = before.get((stamp, columns)) or _read(stamp.path, dict(columns))
                        self._files[stamp, columns] = read
                        told.append((_shown(stamp.path.name), read.digest))
                        rows += len(read.keys)
                        for key, place in read.keys:
                            places.setdefault(key, place)
                suites[name] = blake3(orjson.dumps(told)).hexdigest()
            if closed or not rows:
                unread[name] = closed[0] if closed else "no row of it could be read"
        return Guarded(LeakIndex(suites, places) if places else None, unread)


def read_suites(folder: Path) -> LeakIndex | None:
    """The index of the suites in ``folder``, see :class:`SuitesReader`; None if there is none with a row.

    Raises:
        StorageError: something cannot be read.
    """
    return SuitesReader(folder).read().index


def _read(path: Path, mapping: dict[str, str]) -> _Read:
    with files.reported(f"reading {path}"):
        digest = digest_file(path)
    suite, file = _shown(path.parent.name), _shown(path.name)
    keys: list[tuple[bytes, Place]] = []
    try:
        for row in read_rows(path, mapping, lambda _: None):
            if not isinstance(row.verdict, BadRow):
                place = Place(suite, file, row.line.number)
                keys += [(key, place) for key in _guarded_keys(row.verdict)]
    except InputError:
        pass
    return _Read(digest, tuple(keys))


def _survey(folder: Path) -> list[_Found]:
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise files.storage_error(error, f"looking into {folder}") from error
    found = []
    for entry in entries:
        if entry.name.startswith(".") or is_of_files(entry.name):
            continue
        settings: _Stamp | None = None
        rows: tuple[_Stamp, ...] = ()
        closed: list[str] = []
        with _noting(closed, entry):
            settings = _stamp(entry / suitefiles.SETTINGS_NAME)
            rows = tuple(stamp for path in suitefiles.files_of_rows(entry) if (stamp := _stamp(path)) is not None)
        if settings is not None or rows or closed:
            found.append(_Found(entry, settings, rows, closed[0] if closed else ""))
    return found


def _stamp(path: Path) -> _Stamp | None:
    """None if it is not there, or not there any more: the evaluator takes suites away at any time."""
    try:
        there = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise files.storage_error(error, f"looking at {path}") from error
    return _Stamp(path, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Leave the block where what is read in it has gone away meanwhile."""
    try:
        yield
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


@contextlib.contextmanager
def _noting(closed: list[str], folder: Path) -> Iterator[None]:
    """Leave the block where what is read in it may not be read, and note why."""
    try:
        with suitefiles.refusing_closed(folder):
            yield
    except InputError as error:
        closed.append(str(error))


def _shown(name: str) -> str:
    """A name as text: a file's may have bytes that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
