"""``trainq chaos``."""

from __future__ import annotations

import signal
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from trainq import files
from trainq.cli.context import Context
from trainq.cli.registry import Command

if TYPE_CHECKING:
    from trainq.chaos.campaign import Outcome
    from trainq.cli.console import Console

EXIT_BROKEN = 1


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="break things for so long (60)")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="instead: until so many kills")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what is broken and submitted, and when (1)")
    parser.add_argument("--settle-seconds", type=float, default=600.0, metavar="N",
                        help="how long the work may take to end after the faults (600)")
    parser.add_argument("--folder", type=Path, metavar="FOLDER",
                        help="where to make the installation: a new folder with a short path (a temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave the folder there, also after a success")


def _run(arguments: Namespace, context: Context) -> int:
    from trainq.chaos.campaign import Campaign, Order

    console = context.console
    # Whoever ends this ends what it has started, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if arguments.folder is None:
        folder = Path(tempfile.mkdtemp(prefix="tq"))
    else:
        folder = arguments.folder.absolute()
        folder.mkdir(parents=True)
    order = Order(seed=arguments.seed, seconds=arguments.seconds, kills=arguments.kills,
                  settle_seconds=arguments.settle_seconds)
    console.say(f"seed {order.seed}, in {folder}")
    campaign = Campaign(order, folder, console.say)
    kept = True
    try:
        outcome = campaign.run()
        kept = bool(outcome.wrong) or arguments.keep
    finally:
        campaign.end()
        if kept:
            console.say(f"everything is kept in {folder}")
        else:
            files.remove_tree(folder)
    for wrong in outcome.wrong:
        console.say(f"wrong: {wrong}")
    if console.json:
        console.emit({**outcome.document(), "verdict": outcome.verdict})
    else:
        _print(outcome, console)
    return EXIT_BROKEN if outcome.wrong else 0


def _print(outcome: Outcome, console: Console) -> None:
    from trainq.chaos.plan import FaultKind

    kills = outcome.tally.kills
    kinds = [kind for kind in FaultKind if any(of == kind for _, of in kills)]
    console.line(f"{'kills':<12}" + "".join(f"{kind:>13}" for kind in kinds) + f"{'all':>7}")
    for process in sorted({process for process, _ in kills}):
        numbers = [kills[process, kind] for kind in kinds]
        console.line(f"{process:<12}" + "".join(f"{number:>13}" for number in numbers) + f"{sum(numbers):>7}")
    for point, number in sorted(outcome.tally.points.items()):
        console.line(f"at {point:<40}{number:>5}")
    if outcome.not_reached:
        console.line(f"not reached: {', '.join(outcome.not_reached)}")
    console.line(outcome.verdict)


COMMANDS = {"chaos": Command(_configure, _run)}
