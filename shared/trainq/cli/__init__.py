"""The command line ``trainq``: data to stdout, talk to stderr, stable exit codes.

It asks the broker and reads files; it never works on the journal, never trains, and imports neither torch nor
pydantic. Only the module of the command that was given is imported, so that every command starts fast.
"""

from __future__ import annotations

import gc
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from trainq.cli import parsing
from trainq.cli.console import Console
from trainq.cli.context import Context
from trainq.errors import TrainqError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
EXIT_BUG = TrainqError.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``argv`` is without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(sys.stdout, sys.stderr, json=parsing.wants_json(words), environment=os.environ)
    try:
        arguments = _parse(words) if argv is None else parsing.parse(words)
        code: int = arguments.run(arguments, Context(console, os.environ))
        console.flush()
    except TrainqError as error:
        console.fail(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone. The interpreter flushes once more at its end: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:
        console.report_bug(error)
        return EXIT_BUG
    return code


def _parse(words: Sequence[str]) -> Namespace:
    """Parse in a process of one command, which ends soon: what is imported for it is never looked at for garbage.

    All of it lives until the end, so each collection, in between and at the interpreter's end, is in vain: 11 ms.
    """
    gc.disable()
    try:
        return parsing.parse(words)
    finally:
        gc.freeze()
        gc.enable()
