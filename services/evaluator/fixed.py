"""The fixed problems: suites that are made once of the generators, and of the held-out rows of the newest files.

A suite that is there stays as it is, also where the generator's next version would make another one: so scores go on
being comparable. Who wants new problems takes the folder away, and locks the suite anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from services.evaluator.verdicts import Level
from trainq import files, rehearsal, suites
from trainq.config import GeneratorSettings, Home, Settings
from trainq.errors import InputError
from trainq.generating import registry
from trainq.generating.base import FIRST_FIXED_SEED, GenerateRequest, Generator
from trainq.jsonl import Line
from trainq.logs import EventLog
from trainq.messages import TrainedShard
from trainq.modelfolder import context_tokens, model_folder
from trainq.samples import BadRow, ChatSample, RowJudge
from trainq.textcodec import TextCodec

HELD_OUT = "held-out"
# Of each level so many problems are in it.
_OF_A_LEVEL = 40
# The held-out rows of a file that was trained.
OF_A_FILE = "job-"
# The seeds of files that are trained have 56 bits: none of them is this, and none makes what this makes.
SEED = FIRST_FIXED_SEED
# What tells right answers from wrong ones.
_SCORERS = {"syllo": "syllo", "arithmetic": "final-number"}
# So much longer than the longest reference an answer may be.
_ROOM = 1.25
_JUDGE = RowJudge({})

Row = dict[str, Any]


class _Named(NamedTuple):
    """A generator as it is configured."""

    name: str
    settings: GeneratorSettings
    generator: Generator


class FixedProblems:
    """Makes what is missing of the suites. Reads tokenizers and writes into ``suites/``."""

    def __init__(self, home: Home, settings: Settings, log: EventLog) -> None:
        self._home = home
        self._settings = settings
        self._log = log
        self._codec: TextCodec | None = None

    def make(self, levels: Mapping[str, int], trained: Sequence[TrainedShard]) -> dict[str, Level | None]:
        """See to it that all suites are there; the names of those that can be scored, with the level of those of one.

        Args:
            levels: of each generator, where it is not at its first.
            trained: the newest files that were trained.
        """
        self._codec = TextCodec.load(model_folder(self._settings.model.path), known=self._codec)
        of_levels: dict[str, Level] = {}
        for each in self._named():
            level = min(levels.get(each.name, each.settings.level), each.generator.levels)
            for wanted in sorted({max(1, level - 1), level}):
                if self._make_level(each, wanted):
                    of_levels[level_suite(each.name, wanted)] = Level(each.name, wanted, each.generator.levels,
                                                                      each.settings.level)
        self._make_held_out()
        recent = self._make_of_files(trained)
        # A level's suite that is not of now was passed; others are people's, or the loss on the fixed problems.
        passed = {level_suite(each.name, level) for each in self._named()
                  for level in range(1, each.generator.levels + 1)}
        return {name: of_levels.get(name) for name in suites.names(self._home.suites)
                if name in of_levels or name in recent or not (name in passed or name.startswith(OF_A_FILE))}

    def _named(self) -> list[_Named]:
        return [_Named(name, settings, registry.find(settings.use or name))
                for name, settings in sorted(self._settings.datagen.generators.items())
                if settings.weight > 0 and (settings.use or name) in _SCORERS]

    def _make_level(self, each: _Named, level: int) -> bool:
        """Whether the problems of a level fit into the model, so that they can be asked; they are there then."""
        name = level_suite(each.name, level)
        path = self._home.suites / name
        if path.exists():
            return True
        rows = list(_problems(each, level, self._settings.evaluation.problems))
        sizes = [self._sizes(row) for row in rows]
        room = int(max(answer for _, answer in sizes) * _ROOM)
        if max(prompt for prompt, _ in sizes) + room > self._context:
            self._log.warning("problems_do_not_fit", suite=name, context_tokens=self._context,
                              mend="a model with a longer context could be asked them")
            return False
        suites.write(path, rows, kind="generate", scorer=_SCORERS[each.generator.name], max_new_tokens=room,
                     description=f"fixed problems of {each.name}, level {level}")
        self._log.info("suite_made", suite=name, rows=len(rows))
        return True

    def _make_held_out(self) -> None:
        """The loss on problems of all levels that fit into the model: what decides where nothing else is configured."""
        path = self._home.suites / HELD_OUT
        if path.exists():
            return
        # Behind one that is too long no more of its level are made: making them takes long, too.
        rows = [row for each in self._named() for level in range(1, each.generator.levels + 1)
                for row in takewhile(self._fits, _problems(each, level, _OF_A_LEVEL))]
        if rows:
            suites.write(path, rows, kind="loss", description="the loss on fixed problems that are never trained")
            self._log.info("suite_made", suite=HELD_OUT, rows=len(rows))

    def _make_of_files(self, trained: Sequence[TrainedShard]) -> set[str]:
        """The held-out rows of the newest files, a suite each; those of older files go."""
        settings = self._settings.evaluation
        recent = {f"{OF_A_FILE}{each.job}": each for each in trained[:settings.held_out_jobs]}
        for name in suites.names(self._home.suites):
            if name.startswith(OF_A_FILE) and name not in recent:
                files.remove_tree(self._home.suites / name)
        there = set()
        for name, each in recent.items():
            path, source = self._home.suites / name, self._home.cache / each.shard / rehearsal.HELD_OUT_NAME
            if not path.exists() and source.is_file():
                rows = [orjson.loads(line) for line in source.read_bytes().splitlines()[:settings.held_out_rows]]
                suites.write(path, rows, kind="loss", description=f"held-out rows of {each.job}")
            there |= {name} if path.exists() else set()
        return there

    def _fits(self, row: Row) -> bool:
        return sum(self._sizes(row)) <= self._context

    @property
    def _context(self) -> int:
        return context_tokens(model_folder(self._settings.model.path))

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


def level_suite(generator: str, level: int) -> str:
    """The name of the suite with the fixed problems of that level."""
    return f"{generator}-l{level:02d}"


def _problems(each: _Named, level: int, count: int) -> Iterator[Row]:
    return each.generator.rows(GenerateRequest(count=count, level=level, seed=SEED, options=each.settings.options))
