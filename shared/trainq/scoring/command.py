"""Any program as a scorer: rows as JSON lines to its standard input, scores as JSON lines from its standard output.

It is given, a line for each row, ``{"row", "prompt", "reference", "answer", "metadata"}``: the row's number, what was
asked (a list of ``{role, content}``), the right answer, the one to be scored, and what the row says about itself. It
says ``{"row": number, "score": 0 to 1}`` for each of them, in any order, maybe with a ``"credit"``, and ends with 0.

It runs in the suite's folder, with the user's rights, kept by :mod:`trainq.keeper`: when its time is over or it says
too much, it is killed with all that it has started. What it is given and what it says never touches a disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from trainq import keeper
from trainq.errors import InputError
from trainq.scoring.base import Case, Score, read_options
from trainq.scoring.proving import MOST_CHANCE

_MOST_BYTES = 64 * 1024 * 1024
_SHOWN_CHARACTERS = 300
_LOOK_SECONDS = 0.02
# By which what a killed keeper has left is known.
_MARK = "TRAINQ_SCORER"


class _Options(msgspec.Struct, frozen=True):
    command: Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(min_length=1)]
    seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 600.0
    chance: Annotated[float, msgspec.Meta(ge=0, le=MOST_CHANCE)] = 0.0


def named_files(options: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that the command of these options names by a path, with that: ``/opt/judge/run``, ``rules.txt``,
    ``--rules=../rules.txt``. They decide scores wherever they lie, so a suite's digest is to be over them.

    Not what is looked for in ``PATH``: interpreters are the machine's, as their libraries are, and one that is updated
    makes no other suite.

    Args:
        options: this scorer's, checked.
        folder: the suite's, where it runs.

    Raises:
        InputError: a word names a folder that lies elsewhere: nobody knows what of it is read.
    """
    for word in read_options(options, _Options).command:
        for name in dict.fromkeys((word, word.partition("=")[2])):
            path = folder / name
            try:
                if name and path.is_file():
                    yield name, path
                elif name and path.is_dir() and not path.resolve().is_relative_to(folder.resolve()):
                    raise InputError(f"{name!r} names a folder outside of the suite's: what is read there decides "
                                     "scores, and is in no digest", field="options.command",
                                     mend="put what is needed into the suite's folder, or name the files")
            except (OSError, ValueError):  # too long to be a name, or with a NUL in it
                continue


class _Asked(msgspec.Struct, frozen=True):
    row: int
    prompt: list[dict[str, str]]
    reference: str
    answer: str
    metadata: dict[str, Any]


class _Said(msgspec.Struct, frozen=True):
    row: int
    score: float
    credit: float | None = None


class Command:
    """Scores are what a program says. ``chance`` is what it may give wrong answers on the mean, as its author says."""

    name, version = "command", "1"

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        if "command" not in options:
            raise InputError("it is missing", field="options.command",
                             mend='name the program and its arguments: command = ["python3", "score.py"]')
        found = read_options(options, _Options)
        self._words, self._seconds, self.chance = found.command, found.seconds, found.chance
        self._folder = folder

    def said(self, reference: str) -> str:
        return " ".join(reference.split())

    def lure(self, case: Case) -> str:  # noqa: ARG002  # a scorer's: what looks right to a program is not known
        return ""

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        asked = b"".join(msgspec.json.encode(_Asked(
            case.row, [{"role": message.role, "content": message.content} for message in case.prompt], case.reference,
            answer, case.metadata)) + b"\n" for case, answer in zip(cases, answers, strict=True))
        return self._read(self._run(asked), [case.row for case in cases])

    def _run(self, asked: bytes) -> bytes:
        with (_memory("asked", asked) as stdin, _memory("said") as stdout, _memory("told") as stderr):
            mark = f"{os.getpid()}-{time.monotonic_ns()}"
            # No bytecode: the suite's digest is over all that lies in its folder.
            environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": _from_anywhere(), _MARK: mark}
            kept, reader = keeper.start(self._words, environment, stdout, reads=stdin, errors=stderr,
                                        folder=self._folder)
            why = self._watch(kept, (stdout, stderr))
            ended = keeper.ending(reader)
            if ended is None:  # its keeper was killed, or could not end it
                keeper.kill_left(kept, f"{_MARK}={mark}")
            if isinstance(ended, OSError):
                raise self._failed(f"cannot be run: {ended.strerror}")
            if why or ended != 0:
                how = why or ("was killed" if ended is None else f"was ended by signal {-ended}" if ended < 0
                              else f"ended with code {ended}")
                told = _content(stderr)[-_SHOWN_CHARACTERS:].decode("utf-8", "replace").strip()
                raise self._failed(f"{how}{f': {told}' if told else ''}")
            return _content(stdout)

    def _watch(self, kept: subprocess.Popen[bytes], streams: Sequence[int]) -> str:
        """Until the program and all that it has started have ended; why they were killed, if they were."""
        end_at, why = time.monotonic() + self._seconds, ""
        try:
            while kept.poll() is None:
                if not why and time.monotonic() >= end_at:
                    why = f"did not end within {self._seconds:g} seconds"
                elif not why and max(os.fstat(stream).st_size for stream in streams) > _MOST_BYTES:
                    why = f"said more than {_MOST_BYTES >> 20} MiB"
                else:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        kept.wait(_LOOK_SECONDS)
                    continue
                kept.send_signal(signal.SIGUSR1)
        except BaseException:
            kept.send_signal(signal.SIGUSR1)
            kept.wait()
            raise
        return why

    def _read(self, said: bytes, rows: Sequence[int]) -> list[Score]:
        wanted, scores = set(rows), dict[int, Score]()
        for number, line in enumerate(said.splitlines(), 1):
            if not line.strip():
                continue
            try:
                found = msgspec.json.decode(line, type=_Said)
            except msgspec.MsgspecError as error:
                shown = line[:80].decode("utf-8", "replace")
                raise self._failed(f"says on line {number} what is no score: {shown!r} ({error})") from error
            if found.row not in wanted:
                raise self._failed(f"scores row {found.row}, which it was not asked about")
            if found.row in scores:
                raise self._failed(f"scores row {found.row} twice")
            for what, value in (("score", found.score), ("credit", found.credit)):
                if value is not None and not 0 <= value <= 1:
                    raise self._failed(f"gives row {found.row} the {what} {value:g}, which is not within 0 and 1")
            scores[found.row] = Score(found.score, found.credit)
        for row in rows:
            if row not in scores:
                raise self._failed(f"gives row {row} no score")
        return [scores[row] for row in rows]

    def _failed(self, reason: str) -> InputError:
        return InputError(f"the scorer's program {self._words[0]} {reason}", field="options.command",
                          mend="try it by hand, in the suite's folder")


def _from_anywhere() -> str:
    """Where Python looks for modules, as it is looked for from another folder, too."""
    return os.pathsep.join(str(Path(entry).absolute())
                           for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry)


@contextlib.contextmanager
def _memory(name: str, content: bytes = b"") -> Iterator[int]:
    """A file that lies in memory and has no name (memfd_create(2))."""
    descriptor = os.memfd_create(f"trainq-{name}")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        return stream.read()
