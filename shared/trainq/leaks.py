"""Which rows may not be trained because the model is measured by them: an index of the rows of evaluation suites.

Two texts count as the same when they are equal once normalised: NFKC, case folded, with every stretch of white space,
quotes, brackets and ``. , ; : ! ?`` made one space. Digits and the signs of arithmetic stay: ``3 + 4`` is not
``3 - 4``. A row of a suite is found again by

* the whole of it: the contents of all its turns, one behind the other, whoever says them;
* its question: the contents of all its user turns before the last answer. System turns are left out, because they are
  the same in many rows. A question is compared as a whole, so that puzzles with the same instructions and other words
  in them are different questions. Held-out rows of files (:func:`trainq.jobs.is_of_files`) are found by the whole of
  them only: what many rows of a file ask alike must not take all of them out.

A training row is looked up by the whole of it, by what the user has said before each of its answers, and by each user
turn of some length alone, so that a question is found behind others. Texts are looked up by the whole of them only.
Keys are the first 16 bytes of BLAKE3.

The index is a file of its own, stored under its digest: a shard made again is judged by the suites of the first time.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
from blake3 import blake3

from trainq.errors import DamageError, InputError
from trainq.jobs import is_of_files
from trainq.manifests import digest_file
from trainq.samples import BadRow, ChatSample, Sample, read_rows

FORMAT = 1
KEY_BYTES = 16
# A shorter user turn behind others ("Go on.", "And 12?") says nothing of where it comes from.
_SHORTEST_TURN = 40
_PARTS = re.compile(r"[\s.,;:!?\"'()\[\]{}\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026`]+")
# The ASCII among them, as spaces.
_ASCII_PARTS = bytes(ord(" ") if _PARTS.fullmatch(chr(byte)) else byte for byte in range(256))


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
    if text.isascii():  # the same, ten times as fast
        return b" ".join(text.lower().encode().translate(_ASCII_PARTS).split())
    return _PARTS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip().encode("utf-8", "surrogatepass")


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


def _guarded_keys(sample: Sample, suite: str) -> Iterator[bytes]:
    yield whole_key(sample)
    if isinstance(sample, ChatSample) and not is_of_files(suite):
        last = max(at for at, message in enumerate(sample.messages) if message.role == "assistant")
        asked = [normalised(message.content) for message in sample.messages[:last] if message.role == "user"]
        if any(asked):
            yield _key(b"question", asked)


def _looked_up(sample: Sample) -> Iterator[bytes]:
    texts = _texts(sample)
    yield _key(b"whole", texts)
    if not isinstance(sample, ChatSample):
        return
    asked: list[bytes] = []
    for message, text in zip(sample.messages, texts, strict=True):
        if message.role == "user":
            asked.append(text)
        elif message.role == "assistant" and any(asked):
            yield _key(b"question", asked)
            if len(asked) > 1 and len(asked[-1]) >= _SHORTEST_TURN:
                yield _key(b"question", asked[-1:])


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


def signature_of(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What tells, without reading them, whether the suites below ``folder`` have changed."""
    found = []
    for path in _files(folder):
        there = path.stat()
        found.append((str(path), there.st_ino, there.st_size, there.st_mtime_ns))
    return tuple(found)


def read_suites(folder: Path) -> LeakIndex | None:
    """The index of the suites in ``folder/<name>/*.jsonl``; None if there is none with a row.

    A line that is no row of its suite is passed over, as is what follows damage: the evaluator refuses such a suite.

    Raises:
        StorageError: something cannot be read.
    """
    digests: dict[str, list[str]] = {}
    places: dict[bytes, Place] = {}
    for path in _files(folder):
        suite = path.parent.name
        digests.setdefault(suite, []).append(f"{path.name} {digest_file(path)}")
        for place, sample in _rows(path):
            for key in _guarded_keys(sample, suite):
                places.setdefault(key, place)
    suites = {name: blake3("\n".join(files).encode()).hexdigest() for name, files in digests.items()}
    return LeakIndex(suites, places) if places else None


def _rows(path: Path) -> Iterator[tuple[Place, Sample]]:
    try:
        for row in read_rows(path, {}, lambda _: None):
            if not isinstance(row.verdict, BadRow):
                yield Place(path.parent.name, path.name, row.line.number), row.verdict
    except InputError:
        return


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*/*.jsonl")
                  if path.is_file() and not path.name.startswith(".") and not path.parent.name.startswith("."))
