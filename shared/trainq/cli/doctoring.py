"""``trainq doctor``: what is wrong with the installation, and how to mend it. ``trainq bundle``: a report to send."""

from __future__ import annotations

import textwrap
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import msgspec

from trainq import config, doctor, files
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import columns_of, pad, size
from trainq.doctor import Finding, Verdict, bundle
from trainq.errors import UsageError

_STYLES = {Verdict.OK: "good", Verdict.WARN: "waiting", Verdict.FAIL: "bad"}
_NAME_COLUMNS = 15
_LEAST_COLUMNS = 24
EXIT_FAIL = 1


def _configure_doctor(_parser: ArgumentParser) -> None:
    pass


def _configure_bundle(parser: ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="", metavar="FILE",
                        help="where to put it (default: trainq-bundle-<time>.tar.gz, here)")


def _examined(context: Context) -> tuple[doctor.Subject, list[Finding]]:
    subject = doctor.subject_of(context.environment, config.project_root())
    return subject, doctor.examine(subject, doctor.CHECKS)


def _doctor(_arguments: Namespace, context: Context) -> int:
    console = context.console
    _, findings = _examined(context)
    numbers = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    if console.json:
        console.emit({"ok": not numbers[Verdict.FAIL], "checks": msgspec.to_builtins(findings)})
    else:
        for finding in findings:
            for line in finding_lines(finding, console):
                console.line(line)
        console.line()
        console.line(f"{numbers[Verdict.FAIL]} must be mended, {numbers[Verdict.WARN]} should be looked at, "
                     f"{numbers[Verdict.OK]} are well")
    return EXIT_FAIL if numbers[Verdict.FAIL] else 0


def finding_lines(finding: Finding, console: Console) -> list[str]:
    """A finding for people: verdict, name, what was found; below it the mend."""
    head = f"{pad(finding.verdict.value, 4)}  {pad(finding.name, _NAME_COLUMNS)}"
    indent = " " * columns_of(head)
    room = None if console.width is None else max(_LEAST_COLUMNS, console.width - len(indent))
    lines = _wrapped(printable(finding.found), room)
    shown = [console.paint(head, _STYLES[finding.verdict]) + lines[0], *(indent + line for line in lines[1:])]
    mend = _wrapped(f"mend: {printable(finding.mend)}", room) if finding.mend else []
    return shown + [indent + console.paint(line, "strong") for line in mend]


def _wrapped(text: str, columns: int | None) -> list[str]:
    """Lines of at most so many columns; a word that is longer is broken."""
    return [text] if columns is None else textwrap.wrap(text, columns, break_on_hyphens=False) or [""]


def _bundle(arguments: Namespace, context: Context) -> int:
    console = context.console
    path = Path(arguments.output or time.strftime("trainq-bundle-%Y%m%d-%H%M%S.tar.gz"))
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", mend="make it first, or name another place")
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there already", mend="give another name")
    subject, findings = _examined(context)
    with files.publish_file(path) as stream:
        left_out = bundle.write(stream, subject, findings)
    size_bytes = path.stat().st_size
    if console.json:
        console.emit({"file": str(path), "size_bytes": size_bytes, "left_out": left_out})
    else:
        console.line(printable(f"{path} ({size(size_bytes)})"))
    for line in left_out:
        console.say(f"not in it: {line}")
    console.say("secrets and rows are taken out, names of files are not: look through it before you send it")
    return 0


COMMANDS = {"doctor": Command(_configure_doctor, _doctor), "bundle": Command(_configure_bundle, _bundle)}
