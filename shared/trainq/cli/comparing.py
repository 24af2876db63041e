"""``trainq compare``: two checkpoints on the suites that both were scored on. The numbers are a child's, with scipy."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from trainq import words
from trainq.cli import arguments as types
from trainq.cli import children
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, facts, table
from trainq.config import Home
from trainq.errors import NotFoundError

_CELL = "{:.3f}"
# Of a prompt, an answer: so many lines are shown.
_LINES = 12


def _configure(parser: ArgumentParser) -> None:
    for name, which in (("first", "A"), ("second", "B")):
        parser.add_argument(name, type=types.text, metavar=which, help="g000042-s00001200, champion, or head")
    parser.add_argument("--rows", type=types.natural, default=0, metavar="N",
                        help="of each suite show so many rows that B has right and A has not, and as many the other "
                             "way round, with both answers")


def _run(arguments: Namespace, context: Context) -> int:
    first, second = (_name(context.home, wanted) for wanted in (arguments.first, arguments.second))
    report = children.ask("trainq.comparing", {
        "home": str(context.home.root.absolute()), "first": first, "second": second, "rows": arguments.rows,
        "confidence": context.configuration.settings.evaluation.confidence}, "the process that compares")
    console = context.console
    if console.json:
        console.emit(report)
        return 0
    for line in [*facts(_head(report), console.width), "", *_table(report, console.width)]:
        console.line(line)
    for suite in report["suites"]:
        for row in suite["changed"]:
            console.line("")
            for line in _row(suite["suite"], row, console.width):
                console.line(line)
    return 0


def _name(home: Home, wanted: str) -> str:
    """The checkpoint that is meant; the links follow the journal, and need no broker."""
    links = {"champion": home.champion, "head": home.current}
    if wanted not in links:
        return words.generation(wanted)
    if not links[wanted].is_dir():
        raise NotFoundError(f"there is no {wanted} yet", mend="trainq scores shows what was scored")
    return links[wanted].resolve().name


def _head(report: dict[str, Any]) -> list[tuple[str, str]]:
    only = [(f"only {which}", ", ".join(report[key])) for which, key in (("A", "only_first"), ("B", "only_second"))]
    return [("A", report["first"]), ("B", report["second"]),
            ("", "both have the same weights" if report["have_same_weights"] else ""), *only,
            *((suite["suite"], suite["note"]) for suite in report["suites"])]


def _table(report: dict[str, Any], width: int | None) -> list[str]:
    columns = [Column("suite", flexible=True), Column("kind", spare=True), Column("rows", right=True),
               Column("A", right=True), Column("between", spare=True), Column("B", right=True),
               Column("between", spare=True), Column("B's gain", right=True), Column("between"), Column("p"),
               Column("now right", right=True, spare=True), Column("now wrong", right=True, spare=True)]
    return table(columns, [_cells(suite) for suite in report["suites"]], width)


def _cells(suite: dict[str, Any]) -> list[str]:
    first, second, gain = suite["first"], suite["second"], suite["difference"]
    is_loss = suite["kind"] == "loss"
    return [suite["suite"], first["scorer"] or suite["kind"], str(second["n"]),
            _CELL.format(first["mean"]), _between(first), _CELL.format(second["mean"]), _between(second),
            *(("", "", "") if gain is None else (f"{gain['mean']:+.3f}", _between(gain, "+.3f"), _chance(gain))),
            *(("", "") if is_loss else (str(suite["became_right"]), str(suite["became_wrong"])))]


def _between(numbers: dict[str, Any], form: str = ".3f") -> str:
    return f"{numbers['low']:{form}} and {numbers['high']:{form}}"


def _chance(gain: dict[str, Any]) -> str:
    """The one-sided p of what it looks like: that B is better, or worse."""
    if not gain["mean"]:
        return ""
    word, key = ("better", "p_better") if gain["mean"] > 0 else ("worse", "p_worse")
    return f"{gain[key]:.2g} {word}"


def _row(suite: str, row: dict[str, Any], width: int | None) -> list[str]:
    change = "B has it right, A has not" if row["became_right"] else "A has it right, B has not"
    pairs = [("row", f"{suite}, {row['place'] or row['row']}: {change}")]
    for name, text in (("asked", row["prompt"]), ("right is", row["reference"]), ("A says", row["first"]),
                       ("B says", row["second"])):
        lines = text.splitlines() or ["(nothing)" if name in ("A says", "B says") else ""]
        lines = [*lines[:_LINES], *(["..."] if len(lines) > _LINES else [])]
        pairs += [(name if at == 0 else "", printable(line)) for at, line in enumerate(lines)]
    return facts(pairs, width)


COMMANDS = {"compare": Command(_configure, _run)}
