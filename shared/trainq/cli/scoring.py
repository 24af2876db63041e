"""``trainq evaluate`` and ``trainq scores``: have a checkpoint scored, and what each of them scores."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import msgspec

from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, moment, table
from trainq.cli.tasking import add_wait, ask
from trainq.client import BrokerClient
from trainq.config import Settings, why_unwanted
from trainq.ids import new_request_id
from trainq.jobs import ScoreView, is_of_files
from trainq.messages import EvaluateTask, GetScores, Scores

DEFAULT_LIMIT, MATRIX_LIMIT = 100, 1000
_CELL = "{:.3f}"


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=types.generation, nargs="?", metavar="NAME",
                        help="g000042-s00001200 (default: the head of the line)")
    parser.add_argument("--suite", action="append", default=[], type=types.text, metavar="SUITE",
                        help="on this one alone; may be given again (default: on all)")
    add_wait(parser)


def _evaluate(arguments: Namespace, context: Context) -> int:
    task = EvaluateTask(checkpoint=arguments.checkpoint or "", suites=tuple(arguments.suite))
    return ask(context, task, wait=arguments.wait)


def _configure_scores(parser: ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=types.generation, metavar="NAME", help="of this one alone")
    parser.add_argument("--suite", type=types.text, metavar="SUITE", help="on this one alone")
    parser.add_argument("--matrix", action="store_true",
                        help="a line for each suite, a column for each checkpoint: what was forgotten")
    parser.add_argument("--limit", type=types.positive, metavar="N",
                        help=f"at most so many (default {DEFAULT_LIMIT}, of a matrix {MATRIX_LIMIT})")


def _scores(arguments: Namespace, context: Context) -> int:
    limit = arguments.limit or (MATRIX_LIMIT if arguments.matrix else DEFAULT_LIMIT)
    found = read_scores(context, arguments.checkpoint or "", arguments.suite or "", limit)
    if context.console.json:
        context.console.emit({"scores": msgspec.to_builtins(found)})
        return 0
    for line in _matrix(found, context.console.width) if arguments.matrix else lines_of(found, context.console.width):
        context.console.line(line)
    if arguments.matrix and not arguments.suite and (why := why_no_files(context.configuration.settings, found)):
        context.console.say(why)
    return 0


def why_no_files(settings: Settings, found: list[ScoreView]) -> str:
    """Why no file has a line of its own in the matrix; empty if one has, or nobody scores any."""
    if (settings.data.held_out_fraction or not settings.evaluation.held_out_jobs or why_unwanted(
            settings.services, "evaluator") or any(is_of_files(each.suite) for each in found)):
        return ""
    return ("no trained file has a line: [data] held_out_fraction is 0; with 0.02, say, some rows of each new file are "
            "not trained but scored")


def read_scores(context: Context, checkpoint: str, suite: str, limit: int) -> list[ScoreView]:
    """The newest scores, at most ``limit``."""
    found: list[ScoreView] = []
    after = ("", "")
    with BrokerClient(context.home) as broker:
        while len(found) < limit:
            page = broker.call(GetScores(
                request_id=new_request_id(), checkpoint=checkpoint, suite=suite, after_checkpoint=after[0],
                after_suite=after[1], limit=min(1000, limit - len(found))), Scores).scores
            if not page:
                break
            found += page
            after = (page[-1].checkpoint, page[-1].suite)
    return found


def lines_of(found: list[ScoreView], width: int | None) -> list[str]:
    """A line for each score: how many answers were ended because they were too long, how many rows did not fit, too."""
    columns = [Column("checkpoint"), Column("suite", flexible=True), Column("score", right=True),
               Column("between", spare=True), Column("of", right=True), Column("truncated", right=True),
               Column("left out", right=True), Column("credit", right=True, spare=True), Column("kind", spare=True),
               Column("scored", spare=True), Column("by", spare=True)]
    rows = [[each.checkpoint, each.suite, _CELL.format(each.mean), f"{each.low:.3f} and {each.high:.3f}", str(each.n),
             str(each.truncated or ""), str(each.left_out or ""),
             _CELL.format(each.credit) if each.credit is not None else "", each.scorer or each.kind, moment(each.at),
             each.by] for each in found]
    return table(columns, rows, width)


def _matrix(found: list[ScoreView], width: int | None) -> list[str]:
    """Suites by checkpoints, the newest checkpoint on the right; the best of each line has an asterisk.

    Only scores of the same rows are beside each other: a suite that was changed has a line for each of its digests.
    """
    checkpoints = sorted({each.checkpoint for each in found})
    columns = [Column("suite", flexible=True), *(Column(name.split("-")[0], right=True) for name in checkpoints)]
    digests: dict[str, list[str]] = {}
    for each in found:
        if each.suite_digest not in digests.setdefault(each.suite, []):
            digests[each.suite].append(each.suite_digest)
    rows = []
    for suite, of_suite in sorted(digests.items()):
        for digest in of_suite:
            scores = {each.checkpoint: each for each in found if each.suite_digest == digest and each.suite == suite}
            kind = next(iter(scores.values())).kind
            means = {each.mean for each in scores.values()}
            # Where all are alike, none is the best.
            best = (min if kind == "loss" else max)(means) if len(means) > 1 else None
            name = suite if len(of_suite) == 1 else f"{suite} ({digest[:8]})"
            rows.append([name, *(
                (_CELL.format(scores[checkpoint].mean) + ("*" if scores[checkpoint].mean == best else " "))
                if checkpoint in scores else "" for checkpoint in checkpoints)])
    return table(columns, rows, width)


COMMANDS = {"evaluate": Command(_configure, _evaluate), "scores": Command(_configure_scores, _scores)}
