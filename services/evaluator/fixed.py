"""The fixed problems: suites that are made once of the generators, and of held-out rows of trained files.

A suite that is there stays as it is, also where the generator's next version would make another one: so scores go on
being comparable. Who wants new problems takes the folder away, and locks the suite anew.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from blake3 import blake3

from services.evaluator.verdicts import HELD_OUT, Level
from trainq import files, manifests, rehearsal, scoring, shards, suitefiles, suites
from trainq.config import GeneratorSettings, Home, Settings, why_unwanted
from trainq.errors import DamageError, InputError, NewerFormatError, NotFoundError, StorageError, UsageError
from trainq.generating import registry
from trainq.generating.base import FIRST_FIXED_SEED, GenerateRequest, Generator
from trainq.jobs import OF_ALL, is_of_files, suite_of_a_file, suite_of_a_level
from trainq.jsonl import Line
from trainq.logs import EventLog
from trainq.messages import TrainedShard
from trainq.modelfolder import context_tokens, model_folder
from trainq.samples import BadRow, ChatSample, RowJudge
from trainq.textcodec import TextCodec

# So many problems are in it: enough for losses that are heavy-tailed (docs/adr/0014).
_ROWS = 400
# How the names of these look: whatever else begins alike is a person's.
_MADE_LEVEL = re.compile(r"([a-z0-9][a-z0-9_-]*)-l([0-9]{2,})")
_MADE_HELD_OUT = re.compile(rf"{HELD_OUT}((-[a-z0-9][a-z0-9_-]*-l[0-9]{{2,}})+|-[0-9a-f]{{16}})")
_MOST_NAME_CHARACTERS = 80
# Of fewer there is no interval, and no score.
_LEAST_ROWS = 2
# If none of so many problems of a level fits into the model, the others are not made: that takes time.
_FIRST_PROBLEMS = 8
# The seeds of files that are trained have 56 bits: none of them is this, and none makes what this makes.
SEED = FIRST_FIXED_SEED
# So much longer than the longest reference an answer may be.
_ROOM = 1.25
_JUDGE = RowJudge({})

Row = dict[str, Any]


def _go_on() -> None:
    """Where nobody waits for the work."""


class _Named(NamedTuple):
    """A generator as it is configured."""

    name: str
    settings: GeneratorSettings
    generator: Generator
    level: int


class Suites(NamedTuple):
    """The suites that can be scored, with the level of those that are of one.

    ``held_out`` is the one of them that decides over the champion where nothing else is configured; empty if none can:
    then ``undecided`` says why, and what mends it.
    """

    levels: dict[str, Level | None]
    held_out: str
    undecided: str = ""


class FixedProblems:
    """Makes what is missing of the suites. Reads tokenizers and writes into ``suites/``."""

    def __init__(self, home: Home, settings: Settings, log: EventLog) -> None:
        self._home = home
        self._settings = settings
        self._log = log
        self._codec: TextCodec | None = None
        self._context = 0
        self._beat: Callable[[], None] = _go_on

    def make(self, levels: Mapping[str, int], trained: Sequence[TrainedShard],
             beat: Callable[[], None] = _go_on) -> Suites:
        """See to it that all suites are there; which can be scored.

        Args:
            levels: of each generator, where it is not at its first.
            trained: the files that were trained whose held-out rows are scored.
            beat: called for each row that is made or looked at: a hundred problems of a high level take ten seconds.
                What it raises ends the work; no half of a suite stays.
        """
        self._beat, self._context = beat, context_tokens(model_folder(self._settings.model.path))
        self._codec = TextCodec.load(model_folder(self._settings.model.path), known=self._codec)
        of_levels: dict[str, Level] = {}
        named = self._named(levels)
        for each in named:
            for wanted in sorted({max(1, each.level - 1), each.level}):
                with self._without(each.name):
                    if self._make_level(each, wanted):
                        of_levels[suite_of_a_level(each.name, wanted)] = Level(
                            each.name, wanted, each.generator.levels, each.settings.level)
        recent = self._make_of_files(trained)
        # Whoever trains nothing that is generated is not to have a model that is best at that.
        why_untrained = self._why_none_is_trained()
        held_out = "" if why_untrained else self._make_held_out(named)
        held_out = held_out or self._make_of_all(
            {suite_of_a_file(each.job) for each in trained if not each.generated} & recent or recent)
        # What was made here before and is not of now; the others are people's.
        passed = {suite_of_a_level(each.name, level) for each in named for level in range(1, each.generator.levels + 1)}
        wanted_now = {*of_levels, *recent, held_out, *self._settings.promotion.suites}
        return Suites(held_out=held_out, undecided="" if held_out else self._why_undecided(
            why_untrained or ("none fits into the model" if named else "no generator is configured")), levels={
            name: of_levels.get(name) for name in suites.names(self._home.suites)
            if name in wanted_now or not (name in passed or is_of_files(name) or _MADE_HELD_OUT.fullmatch(name)
                                          or self._was_made_of_a_level(name))})

    def _was_made_of_a_level(self, name: str) -> bool:
        """Whether it has fixed problems of a generator, which may be configured no more."""
        found = _MADE_LEVEL.fullmatch(name)
        try:
            return found is not None and suitefiles.read_table(
                self._home.suites / name / suitefiles.SETTINGS_NAME).get("description") == _description(
                    found[1], int(found[2]))
        except (InputError, StorageError):
            return False  # who reads it as a suite says what is wrong with it

    def _why_none_is_trained(self) -> str:
        """Why this home trains nothing that is generated; empty if it does."""
        if not self._settings.datagen.max_share:
            return "[datagen] max_share is 0"
        why = why_unwanted(self._settings.services, "datagen")
        return f"the datagen is {why}" if why else ""

    def _why_undecided(self, why_not_generated: str) -> str:
        settings = self._settings
        mend = "name suites of your own in [promotion] suites"
        if not settings.data.held_out_fraction:
            why, mend = "[data] held_out_fraction is 0", f"make that 0.02, say, or {mend}"
        elif not settings.evaluation.held_out_jobs:
            why, mend = "[evaluation] held_out_jobs is 0", f"make that 20, say, or {mend}"
        else:
            why, mend = "no trained file has two that fit into the model", f"train more files, or {mend}"
        return (f"nothing can decide: no generated problems ({why_not_generated}), and no "
                f"held-out rows of files ({why}): {mend}")

    @contextlib.contextmanager
    def _without(self, generator: str) -> Iterator[None]:
        """One that cannot make its problems keeps no other suite from being scored."""
        try:
            yield
        except (InputError, NotFoundError, UsageError) as error:
            self._log.warning("problems_not_made", generator=generator, error=str(error))

    def _named(self, levels: Mapping[str, int]) -> list[_Named]:
        found = []
        for name, settings in sorted(self._settings.datagen.generators.items()):
            if settings.weight > 0 and (settings.use or name) in scoring.OF_GENERATORS:
                with self._without(name):
                    generator = registry.find(settings.use or name)
                    level = min(levels.get(name, settings.level), generator.levels)
                    found.append(_Named(name, settings, generator, level))
        return found

    def _make_level(self, each: _Named, level: int) -> bool:
        """Whether the problems of a level fit into the model, so that they can be asked; they are there then."""
        name = suite_of_a_level(each.name, level)
        path = self._home.suites / name
        if path.exists():
            return True
        # Making problems takes time: of a level that does not fit, only one is made each time.
        if not self._fits(next(self._problems(each, level, 1))):
            return False
        rows = list(self._problems(each, level, self._settings.evaluation.problems))
        sizes = [self._sizes(row) for row in rows]
        room = int(max(answer for _, answer in sizes) * _ROOM)
        if max(prompt for prompt, _ in sizes) + room > self._context:
            self._log.warning("problems_do_not_fit", suite=name, context_tokens=self._context,
                              mend="a model with a longer context could be asked them")
            return False
        suites.write(path, rows, kind="generate", scorer=scoring.OF_GENERATORS[each.generator.name],
                     max_new_tokens=room, description=_description(each.name, level))
        self._log.info("suite_made", suite=name, rows=len(rows))
        return True

    def _make_held_out(self, named: Sequence[_Named]) -> str:
        """The loss on problems of all levels up to those of now, each alike; empty if none fits into the model.

        With a higher level it is another suite: what the model is to learn has become more, and what it has learned
        before counts on.
        """
        fitting: list[_Named] = []
        for each in named:
            with self._without(each.name):
                fitting += [each] if self._fits(next(self._problems(each, each.level, 1))) else []
        if not fitting:
            return ""
        name = "-".join([HELD_OUT, *(suite_of_a_level(each.name, each.level) for each in fitting)])
        if len(name) > _MOST_NAME_CHARACTERS:
            name = f"{HELD_OUT}-{manifests.digest_bytes(name.encode())[:16]}"
        if not (self._home.suites / name).exists():
            rows: list[Row] = []
            for each in fitting:
                count = math.ceil(_ROWS / len(fitting) / each.level)
                for level in range(1, each.level + 1):
                    with self._without(each.name):
                        rows += self._fitting(self._problems(each, level, count))
            if len(rows) < _LEAST_ROWS:
                return ""
            made = suites.write(
                self._home.suites / name, rows, kind="loss",
                description="the loss on fixed problems of all levels until now; they are never trained")
            self._log.info("suite_made", suite=name, rows=len(made.rows))
            if len(made.rows) < (least := self._settings.promotion.min_rows):
                self._log.warning("suite_decides_nothing", suite=name, rows=len(made.rows), min_rows=least,
                                  mend="other problems do not fit into the model: take one with a longer context, or "
                                       "lower [promotion] min_rows")
        return name

    def _make_of_all(self, recent: set[str]) -> str:
        """The held-out rows of these files together: for who generates nothing. Other files, another suite."""
        rows = [row for name in sorted(recent)
                for row in map(orjson.loads, (self._home.suites / name / suites.ROWS_NAME).read_bytes().splitlines())]
        if not rows:
            return ""
        name = f"{OF_ALL}{manifests.digest_bytes(orjson.dumps(rows))[:16]}"
        for old in suites.names(self._home.suites):
            if old.startswith(OF_ALL) and old != name:
                files.remove_tree(self._home.suites / old)
        if not (self._home.suites / name).exists():
            suites.write(self._home.suites / name, rows, kind="loss",
                         description="held-out rows of trained files together")
        return name

    def _make_of_files(self, trained: Sequence[TrainedShard]) -> set[str]:
        """The held-out rows of these files, a suite each; those of others go."""
        settings = self._settings.evaluation
        recent = {suite_of_a_file(each.job): each for each in trained[:settings.held_out_jobs]}
        for name in suites.names(self._home.suites):
            if is_of_files(name) and not name.startswith(OF_ALL) and name not in recent:
                files.remove_tree(self._home.suites / name)
        there = set()
        for name, each in recent.items():
            path, source = self._home.suites / name, self._home.cache / each.shard / rehearsal.HELD_OUT_NAME
            if not path.exists() and source.is_file():
                lines = self._held_out(source, settings.held_out_rows)
                if len(lines) >= _LEAST_ROWS:
                    suites.write(path, map(orjson.loads, lines), kind="loss",
                                 description=f"held-out rows of {each.job}")
            there |= {name} if path.exists() else set()
        return there

    def _held_out(self, source: Path, most: int) -> list[bytes]:
        """Of the held-out rows of a shard that fit into the model those with the smallest digests, each once.

        None of a file that is not what the shard's manifest says. So many rows are held, and no more, however large the
        file is; which they are does not depend on their order there.
        """
        try:
            record = manifests.read(source.parent, shards.KIND).files.get(source.name)
            if record is None:
                raise DamageError(str(source), "the manifest does not name it")
            return self._smallest(_lines(manifests.proven_chunks(source, record, source.name, lambda _: self._beat())),
                                  most)
        except (DamageError, NewerFormatError, StorageError) as error:
            self._log.warning("held_out_rows_not_used", file=str(source), reason=str(error))
            return []

    def _smallest(self, lines: Iterable[bytes], most: int) -> list[bytes]:
        # The largest first, which is the first to go.
        chosen: list[tuple[int, bytes]] = []
        for line in lines:
            self._beat()
            entry = (-int.from_bytes(blake3(line).digest(), "big"), line)
            if (len(chosen) == most and entry <= chosen[0]) or entry in chosen or not self._row_fits(line):
                continue
            (heapq.heappush if len(chosen) < most else heapq.heapreplace)(chosen, entry)
        return [line for _, line in sorted(chosen, reverse=True)]

    def _row_fits(self, line: bytes) -> bool:
        sample = _JUDGE.judge(Line(1, line, len(line)))
        if isinstance(sample, BadRow) or self._codec is None:
            return False
        (row,) = self._codec.encode_batch([sample], self._context)
        return not isinstance(row, InputError) and row.whole and len(row.token_ids) <= self._context

    def _fitting(self, problems: Iterable[Row]) -> Iterator[Row]:
        """Those that fit into the model; it ends where none of the first ones does."""
        fitted = False
        for number, row in enumerate(problems, 1):
            if self._fits(row):
                fitted = True
                yield row
            elif not fitted and number == _FIRST_PROBLEMS:
                return

    def _fits(self, row: Row) -> bool:
        return sum(self._sizes(row)) <= self._context

    def _problems(self, each: _Named, level: int, count: int) -> Iterator[Row]:
        wanted = GenerateRequest(count=count, level=level, seed=SEED, options=each.settings.options)
        for row in each.generator.rows(wanted):
            self._beat()
            yield row

    def _sizes(self, row: Row) -> tuple[int, int]:
        """The tokens of a problem's prompt, and those of its answer."""
        line = orjson.dumps(row)
        sample = _JUDGE.judge(Line(1, line, len(line)))
        if isinstance(sample, BadRow) or not isinstance(sample, ChatSample) or self._codec is None:
            raise InputError("a generator makes rows that are no chats", mend="see trainq.generating.base")
        prompt = len(self._codec.encode_prompt(sample.messages[:-1]))
        (whole,) = self._codec.encode_batch([sample], self._context)
        if isinstance(whole, InputError):
            raise whole
        return prompt, max(1, len(whole.token_ids) - prompt)


def _description(generator: str, level: int) -> str:
    """By this the problems of a level are known again: a person's suite may be called the same."""
    return f"fixed problems of {generator}, level {level}"


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from filter(None, whole)
    if rest:
        yield rest
