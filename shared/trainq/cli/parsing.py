"""From words to a namespace: the parser of all commands, of which only the chosen one declares its arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from trainq import __version__
from trainq.cli import registry
from trainq.cli.console import terminal_columns
from trainq.errors import UsageError

_EPILOG = """\
exit codes:
    0  done
    1  a job that was waited for or followed ended otherwise than succeeded,
       or a service did not start or stop in time
    2  the command line was not understood
   64  the broker could not make sense of what was asked
   65  a file or a request is not acceptable (each one is named)
   66  what was named does not exist
   69  the broker, or supervisord, does not answer (giving the same command
       again is safe)
   70  a bug in trainq
   73  the disk is full
   74  the disk failed, or something on it is damaged
   75  somebody else is at it
   76  the broker speaks another version of the protocol
   78  the configuration has mistakes (all are named)
  130  interrupted; jobs go on
  141  whoever read the output has gone

`trainq COMMAND --help` shows a command's own options. --json works with every command, before or after it.
The home is $TRAINQ_HOME, the configuration $TRAINQ_CONFIG or trainq.toml beside supervisord.conf.
"""


# How far argparse indents commands.
_INDENT = 4


class CommandLineError(UsageError):
    """The command line was not understood."""

    exit_code = 2


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """One that is told the width: argparse makes one for every argument, and would import shutil to ask for it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_columns(sys.stdout, os.environ) - 2)
        # argparse does not count the indent of commands: the longest one would stand in a line of its own.
        self._action_max_length = _INDENT + max(map(len, registry.ENTRIES))


class _Parser(argparse.ArgumentParser):
    """One that raises instead of writing and exiting, so that mistakes are reported like all other errors."""

    def error(self, message: str) -> NoReturn:
        raise CommandLineError(message, mend=f"{self.prog} --help")


def wants_json(words: Sequence[str]) -> bool:
    """Whether ``--json`` is among the options, known before parsing so that a parsing error can be JSON too."""
    options = words[:words.index("--")] if "--" in words else words
    return "--json" in options


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of the chosen command; ``run`` is what performs it.

    Raises:
        CommandLineError: they were not understood.
    """
    # No option before the command takes a value, so the first word that is no option is the command.
    chosen = next((word for word in words if not word.startswith("-")), "")
    # Where the command comes first nobody asks what others there are.
    shown = (chosen,) if words[:1] == [chosen] and chosen in registry.ENTRIES else tuple(registry.ENTRIES)
    return _build(chosen, shown).parse_args(words)


def _build(chosen: str, shown: Sequence[str]) -> _Parser:
    parser = _Parser(prog="trainq", description="Keeps a language model learning from the files you give it.",
                     epilog=_EPILOG, formatter_class=_Formatter, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    parser.add_argument("--version", action="version", version=f"trainq {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", prog=parser.prog, required=True, parser_class=_Parser)
    for name in shown:
        summary = registry.ENTRIES[name].summary
        sub = commands.add_parser(name, help=summary, description=_sentence(summary), formatter_class=_Formatter,
                                  allow_abbrev=False)
        if name == chosen:
            command = registry.load(name)
            sub.set_defaults(run=command.run)
            command.configure(sub)
            add_json(sub)
    return parser


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command alone, for those who look at what it would understand."""
    parser = _Parser(prog=f"trainq {name}", formatter_class=_Formatter, allow_abbrev=False)
    registry.load(name).configure(parser)
    add_json(parser)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Accept ``--json`` behind the command as well, without undoing one before it."""
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS,
                        help="machine-readable output on stdout")


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:]}."
