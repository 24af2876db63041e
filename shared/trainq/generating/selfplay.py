"""The generator ``selfplay`` as people ask for it: its name, its options, and at which level it is asked.

What it does is in :mod:`trainq.generating.puzzles` and in ``trainq.ml.selfplaying``. Here is what every command and
service needs of it, so little is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trainq.config import GeneratorSettings
from trainq.errors import UsageError

NAME, VERSION = "selfplay", "1"
DEFAULT_SOURCE = "arithmetic"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """Its options.

    ``source`` (``from``) is the generator whose puzzles are asked. An answer has ``max_new_tokens`` at most; of
    ``batch_rows`` puzzles at once, on ``threads`` threads (0: half of the processors). Fewer than ``least_rows`` right
    answers make no file. Answers are greedy with a ``temperature`` of 0; else they are drawn, by the task's seed, and a
    puzzle is asked up to ``samples`` times, until it is answered rightly.
    """

    source: str = DEFAULT_SOURCE
    max_new_tokens: Annotated[int, Meta(ge=1, le=32_768)] = 256
    batch_rows: Annotated[int, Meta(ge=1, le=4096)] = 32
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    least_rows: Annotated[int, Meta(ge=1, le=100_000)] = 8
    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.0
    samples: Annotated[int, Meta(ge=1, le=64)] = 1


def read_options(given: Mapping[str, Any]) -> Options:
    """The options, checked.

    Raises:
        UsageError: one is not known, or not as it must be.
    """
    try:
        options = msgspec.convert(dict(given), Options)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(Options))
        raise UsageError(f"an option of the generator {NAME} is wrong: {error}", mend=f"known are: {known}") from error
    if options.samples > 1 and not options.temperature:
        raise UsageError(f"the generator {NAME} is to ask {options.samples} times, and would be answered the same",
                         mend="set its temperature, to 1 say")
    return options


def source_of(given: Mapping[str, Any]) -> str:
    """The generator whose puzzles are asked."""
    source = given.get("from", DEFAULT_SOURCE)
    return source if isinstance(source, str) else DEFAULT_SOURCE


def level_of(name: str, generators: Mapping[str, GeneratorSettings], moved: Mapping[str, int]) -> int:
    """The level at which the next file of this name is made: where the evaluations have moved it, else as configured.

    Self-play is at that of the puzzles' own generator, which may be configured under its own name or, with ``use``,
    under others: of those the first counts. Only where nobody has configured it does self-play's own setting.

    Args:
        name: the generator's, as it is configured or not.
        generators: those that are configured.
        moved: the levels of the evaluations, by the names of the configuration.
    """
    own = generators.get(name, GeneratorSettings())
    if (own.use or name) != NAME:
        return moved.get(name, own.level)
    source = source_of(own.options)
    known = [each for each in (source, *generators) if each in generators and (generators[each].use or each) == source]
    return moved.get(known[0], generators[known[0]].level) if known else moved.get(source, own.level)
