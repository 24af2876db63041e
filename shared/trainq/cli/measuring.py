"""``trainq metrics``: the steps of a job, from its history on disk. Asks nobody."""

from __future__ import annotations

import itertools
import sys
from argparse import ArgumentParser, Namespace
from array import array
from collections import deque
from collections.abc import Sequence

import msgspec

from trainq import stephistory
from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, count, duration, facts, table
from trainq.errors import NotFoundError, UsageError
from trainq.stephistory import StepMetrics

DEFAULT_LAST = 10
_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 60


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("job", type=types.job_id, metavar="JOB", help="train-7, or 7 for short")
    parser.add_argument("--csv", action="store_true", help="as a table for other programs")
    parser.add_argument("--last", type=types.positive, metavar="N",
                        help=f"only the last N steps (default: {DEFAULT_LAST} for people, all with --json and --csv)")


def _run(arguments: Namespace, context: Context) -> int:
    console, path = context.console, stephistory.path_of(context.home.metrics, arguments.job)
    if arguments.csv and console.json:
        raise UsageError("--csv and --json cannot both go to stdout", mend="leave one of them out")
    machine = arguments.csv or console.json
    last = deque[StepMetrics](maxlen=arguments.last or (None if machine else DEFAULT_LAST))
    losses, tokens, seconds = array("d"), 0, 0.0
    try:
        for step in stephistory.read(path):
            last.append(step)
            losses.append(step.loss)
            tokens, seconds = tokens + step.tokens, seconds + step.seconds
    except FileNotFoundError:
        raise NotFoundError(f"no step of {arguments.job} is recorded in {path.parent}",
                            mend=f"trainq show {arguments.job} says where it stands") from None
    if console.json:
        console.emit({"job": arguments.job, "count": len(losses), "steps": msgspec.to_builtins(list(last))})
    elif arguments.csv:
        _write_csv(list(last))
    elif losses:
        speed = f"{count(tokens / seconds)} tokens/s" if seconds else ""
        for line in facts([
                ("job", arguments.job), ("steps", f"{len(losses)}, in {duration(seconds)}"), ("tokens", f"{tokens}"),
                ("speed", speed), ("loss", f"{losses[0]:.4f} at first, {losses[-1]:.4f} at last, "
                                           f"{min(losses):.4f} at least"), ("", sparkline(losses))], console.width):
            console.line(line)
        console.line()
        for line in _lines(list(last), console.width):
            console.line(line)
    return 0


def sparkline(values: Sequence[float], most: int = _MOST_BARS) -> str:
    """Bars for the means of at most ``most`` stretches of equal length, the smallest and largest mean as the ends."""
    bars = min(most, len(values))
    bounds = [len(values) * at // bars for at in range(bars + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    if not low < high < float("inf"):
        return _BARS[0] * bars
    return "".join(_BARS[round((mean - low) / (high - low) * (len(_BARS) - 1))] for mean in means)


def _lines(steps: list[StepMetrics], width: int | None) -> list[str]:
    columns = [Column(title, right=True, spare=title not in ("step", "loss")) for title in
               ("step", "line's step", "epoch", "loss", "learning rate", "grad norm", "rows", "tokens", "seconds")]
    # An exclamation mark: the loss out of its band, the norm a spike, as the guards saw it.
    rows = [[f"{each.job_step}", f"{each.step}", f"{each.epoch + 1}",
             f"{each.loss:.4f}{'!' if each.out_of_band else ''}",
             f"{each.learning_rate:.3g}",
             "" if each.grad_norm is None else f"{each.grad_norm:.3g}{'!' if each.grad_spike else ''}",
             f"{each.rows or ''}", f"{each.tokens}", f"{each.seconds:.3f}"] for each in steps]
    return table(columns, rows, width)


def _write_csv(steps: list[StepMetrics]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(StepMetrics.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(step) for step in steps)
    sys.stdout.flush()


COMMANDS = {"metrics": Command(_configure, _run)}
