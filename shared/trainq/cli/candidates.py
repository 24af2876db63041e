"""What may follow on a command line, from the parsers themselves: what a shell shows when Tab is pressed.

Jobs and copies are looked up in the home without the broker: ``status.json`` and the names of folders. What cannot be
read is left out; a completion never fails.
"""

from __future__ import annotations

import argparse
import os
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainq.cli import arguments as types
from trainq.cli import parsing, registry

_MOST = 300
_GLOBAL = (("--help", "what there is"), ("--version", "the version"), ("--json", "machine-readable output"))


class Candidate(NamedTuple):
    """A word that may stand here, and what it is for."""

    word: str
    told: str = ""


def candidates(words: Sequence[str], home: Callable[[], Path]) -> list[Candidate]:
    """What may stand for the last of ``words`` (which is what was typed of it, perhaps nothing).

    None at all: what stands here is a file, or only the person knows it.

    Args:
        words: those behind ``trainq``; bash breaks them at ``=``.
        home: the folder that everything lies in, asked for only where it counts.
    """
    words = [word for word in words[:-1] if word != "="] + ["" if words[-1] == "=" else words[-1]] if words else [""]
    *before, typed = words
    at = next((at for at, word in enumerate(before) if not word.startswith("-")), None)
    if at is None:
        found = [Candidate(name, entry.summary) for name, entry in registry.ENTRIES.items()]
        offered = iter([Candidate(*option) for option in _GLOBAL] if typed.startswith("-") else found)
    elif before[at] in registry.ENTRIES:
        offered = _of_command(parsing.parser_of(before[at]), before[at + 1:], typed, home)
    else:
        offered = iter(())
    matching = {each.word: each for each in offered if each.word.startswith(typed)}
    return list(matching.values())[:_MOST]


def _of_command(parser: ArgumentParser, before: Sequence[str], typed: str,
                home: Callable[[], Path]) -> Iterator[Candidate]:
    """Walk over the words before, as argparse will, to see what is expected here."""
    parser, expected, positionals, used = _walk(parser, before)
    if expected is not None:
        yield from _values(expected, home)
    elif typed.startswith("--") and "=" in typed:
        name = typed.partition("=")[0]
        option = parser._option_string_actions.get(name)
        yield from (Candidate(f"{name}={each.word}", each.told) for each in (_values(option, home) if option else ()))
    elif typed.startswith("-") and "--" not in before:
        yield from _options(parser, used)
    elif positionals:
        yield from _values(positionals[0], home)


def _walk(parser: ArgumentParser,
          before: Sequence[str]) -> tuple[ArgumentParser, Action | None, list[Action], set[Action]]:
    """(the parser of the action that was chosen, the option whose value is next, the arguments to come, those used)."""
    expected: Action | None = None
    positionals, used, only_arguments = _arguments(parser), set[Action](), False
    for word in before:
        if expected is not None:
            expected = None
        elif word == "--":
            only_arguments = True
        elif word.startswith("-") and len(word) > 1 and not only_arguments:
            option = parser._option_string_actions.get(word.partition("=")[0])
            if option is not None:
                used.add(option)
                expected = option if option.nargs != 0 and "=" not in word else None
        elif positionals:
            action = positionals[0]
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                parser = action.choices[word]
                positionals, used = _arguments(parser), set()
            elif action.nargs not in ("*", "+", argparse.REMAINDER):
                positionals = positionals[1:]
    return parser, expected, positionals, used


def _arguments(parser: ArgumentParser) -> list[Action]:
    return [action for action in parser._actions if not action.option_strings]


def _options(parser: ArgumentParser, used: set[Action]) -> Iterator[Candidate]:
    for action in parser._actions:
        if action.option_strings and (action not in used or isinstance(action, argparse._AppendAction)) \
                and action.help != argparse.SUPPRESS:
            yield Candidate(action.option_strings[-1], _told(action.help))


def _values(action: Action, home: Callable[[], Path]) -> Iterator[Candidate]:
    """What may be the value of an argument or option."""
    if isinstance(action, argparse._SubParsersAction):
        told = {each.dest: each.help for each in action._choices_actions}
        yield from (Candidate(name, _told(told.get(name))) for name in action.choices)
    elif action.choices is not None:
        yield from (Candidate(str(choice)) for choice in action.choices)
    elif action.type is types.job_id:
        yield from _jobs(home())
    elif action.type is types.generation:
        yield from _copies(home())
    elif action.metavar == "SERVICE|JOB":
        yield from (Candidate(name.removesuffix(".log"), "service")
                    for name in _names(home() / "logs") if name.endswith(".log"))
        yield from _jobs(home())


def _told(text: str | None) -> str:
    return " ".join((text or "").replace("%%", "%").split())


def _jobs(home: Path) -> Iterator[Candidate]:
    """Those of the last picture, and those of which there are metrics."""
    picture = _picture(home)
    tasks = picture.get("background_tasks") or {}
    for job in (*_listed(picture.get("running")), *_listed(picture.get("waiting")), *_listed(tasks.get("running")),
                *_listed(tasks.get("recent"))):
        yield from _candidate(str(job.get("id", "")), f"{job.get('state', '')} {job.get('name', '')}".strip())
    stems = [name.removesuffix(".jsonl") for name in _names(home / "metrics") if name.endswith(".jsonl")]
    for stem in sorted(stems, key=lambda stem: (len(stem), stem), reverse=True):
        yield from _candidate(stem, "")


def _picture(home: Path) -> Mapping[str, Any]:
    import orjson

    try:
        found = orjson.loads((home / "status.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _copies(home: Path) -> Iterator[Candidate]:
    for store in ("snapshots", "checkpoints"):
        for name in sorted(_names(home / store), reverse=True):
            try:
                types.generation(name)
            except argparse.ArgumentTypeError:
                continue
            yield Candidate(name, store.removesuffix("s"))


def _candidate(word: str, told: str) -> Iterator[Candidate]:
    """A job's id, if it is one: nothing else from a file may reach a shell."""
    try:
        yield Candidate(types.job_id(word), told)
    except argparse.ArgumentTypeError:
        return


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 (names are all that is wanted)
    except OSError:
        return []
