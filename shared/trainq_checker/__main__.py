"""The command: one line a check, the verdict last. Exit 0: all is as promised; 1: something is not; 2: usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trainq_checker import checks
from trainq_checker.reading import DAMAGE, BrokenError

# What reading damaged bytes may raise: a check that meets it has failed, and the others still speak.
_DAMAGE = (BrokenError, *DAMAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the home that the command line names; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainq_checker")
    parser.add_argument("home", type=Path)
    parser.add_argument("--driver", type=Path, help="the folder of an undisturbed run, to compare the weights with")
    parser.add_argument("--receipts", type=Path, help="JSON lines {request_id, digest, job} of what was acknowledged")
    parser.add_argument("--allow-open", action="store_true", help="jobs may still be waiting or running")
    parser.add_argument("--strict", action="store_true",
                        help="no job may be unprovable, and no change of what computes be in the journal")
    given = parser.parse_args(arguments)
    if not (given.home / "journal.db").is_file():
        parser.error(f"{given.home} is no home: it has no journal.db")
    if given.receipts is not None and not given.receipts.is_file():
        parser.error(f"{given.receipts} is not there")
    if given.driver is not None and not (given.driver / "checkpoints").is_dir():
        parser.error(f"{given.driver} is no driver's folder: it has no checkpoints")
    failed: list[str] = []
    done = 0
    try:
        evidence = checks.gather(given.home, driver=given.driver, receipts=given.receipts, allow_open=given.allow_open,
                                 strict=given.strict)
    except _DAMAGE as error:
        _say(f"FAIL reading: {_words(error)}")
        failed.append("reading")
    else:
        for name, check in checks.all_checks(evidence):
            done += 1
            try:
                _say(f"ok   {name}: {check(evidence)}")
            except _DAMAGE as error:
                _say(f"FAIL {name}: {_words(error)}")
                failed.append(name)
    _say(f"verdict: broken ({', '.join(failed)})" if failed else f"verdict: as promised ({done} checks)")
    return 1 if failed else 0


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, BrokenError) else f"it cannot be read: {error!r}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
