"""``scripts/bench/promotions``: challengers whose true gain is known, through the decision that a home makes.

A round is 400 challengers (or 50 in a row, with the champion moving), each with its seed; the limit is that of one
round, so the worst round stands beside it. The rows are those that one plan gives; what other plans would have given is
the last table. Nothing is trained: what is measured is the rule, not a model.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from bench import tables
from bench.populations import (
    CREDITS,
    EXACT,
    LOPSIDED,
    LOSSES,
    Population,
    comparison,
    judged,
    moves_in_a_row,
    promoted,
)
from trainq import promoting
from trainq.promoting import SuiteRule

CHALLENGERS, IN_A_ROW, PILOT_ROWS = 400, 50, 1000
MOST_FALSE, LEAST_FOUND = 12, 320
KINDS = (LOSSES, EXACT, CREDITS)


def counted(rounds: int, one: Callable[[int], int]) -> list[int]:
    """``one(seed)`` for so many seeds."""
    return [one(1000 + number) for number in range(rounds)]


def family(seed: int, rows: int, *, limit: float | None) -> int:
    """Equal challengers on three suites, each of which decides (limit: and guards), that are promoted."""
    random, count = np.random.default_rng(seed), 0
    names = [population.name for population in KINDS]
    rules = [SuiteRule(suite=population.name, deciding=True, margin=population.margin, limit=limit)
             for population in KINDS]
    drawn = [population.pairs(random, CHALLENGERS, rows, 0.0) for population in KINDS]
    for number in range(CHALLENGERS):
        comparisons = [comparison(population, name, before[number], after[number])
                       for population, name, (before, after) in zip(KINDS, names, drawn, strict=True)]
        count += judged(comparisons, rules).action is promoting.Action.PROMOTE
    return count


def past_the_guard(seed: int, rows: int) -> int:
    """Challengers that are better on one suite (twice the margin) and fall by their limit on another: promoted."""
    random, limit = np.random.default_rng(seed), 0.05
    rules = [SuiteRule(suite="better", deciding=True, margin=LOSSES.margin),
             SuiteRule(suite="guard", deciding=False, margin=EXACT.margin, limit=limit)]
    better = LOSSES.pairs(random, CHALLENGERS, LOSSES.rows_needed(1, PILOT_ROWS), 2 * LOSSES.margin)
    fallen = EXACT.pairs(random, CHALLENGERS, rows, -limit)
    return sum(judged([comparison(LOSSES, "better", *one), comparison(EXACT, "guard", *other)],
                      rules).action is promoting.Action.PROMOTE
               for one, other in zip(zip(*better, strict=True), zip(*fallen, strict=True), strict=True))


def row(name: str, rows: int, counts: Sequence[int], limit: str, of: int = CHALLENGERS) -> list[str]:
    worst = min(counts) if limit.startswith(">=") else max(counts)
    return [name, str(rows), f"{len(counts) * of}", f"{100 * sum(counts) / len(counts) / of:.2f} %", str(worst), limit]


def found(population: Population, rounds: int) -> list[list[str]]:
    """The lines of one kind of suite, at the rows that the plan gives."""
    rows = population.rows_needed(1, PILOT_ROWS)
    noise = population.margin / 2
    noisy = population.rows_needed(1, PILOT_ROWS, noise=noise)

    def at(n: int, gain: float, shifted: float = 0.0) -> list[int]:
        return counted(rounds, lambda seed: promoted(
            population, seed=seed, challengers=CHALLENGERS, rows=n, gain=gain, noise=noise if shifted else 0.0,
            shifted=shifted))

    few, most, least = 100, f"<= {MOST_FALSE}", f">= {LEAST_FOUND}"
    lines = [row(f"{population.name}: equal", rows, at(rows, 0.0), most),
             row(f"{population.name}: equal, few rows", few, at(few, 0.0), most),
             row(f"{population.name}: better by twice the margin", rows, at(rows, 2 * population.margin), least),
             row(f"{population.name}: better by the margin", rows, at(rows, population.margin), "-")]
    if population.is_loss:
        lines += [row(f"{population.name}: equal, all rows moved by the noise", noisy, at(noisy, 0.0, noise), most)]
    return lines


def lopsided(rows: int, rounds: int) -> list[str]:
    """What no test sees on few rows: the large losses that are not among them."""
    counts = counted(rounds, lambda seed: promoted(LOPSIDED, seed=seed, challengers=CHALLENGERS, rows=rows, gain=0.0))
    return row("lopsided: equal on average", rows, counts, "-")


def in_a_row(population: Population, rounds: int) -> list[str]:
    rows = population.rows_needed(1, PILOT_ROWS)
    moves = counted(rounds, lambda seed: moves_in_a_row(population, seed=seed, challengers=IN_A_ROW, rows=rows))
    times = Counter(moves)
    return [population.name, str(rows), str(rounds), f"{sum(moves) / rounds:.2f}",
            *(str(times[number]) for number in range(3)), str(sum(move > 2 for move in moves))]


def planned(population: Population, rounds: int) -> list[str]:
    """What a plan is worth that is made from one comparison on so many rows, each time another one."""
    rows = [population.rows_needed(seed, PILOT_ROWS) for seed in range(rounds)]
    shares = [promoted(population, seed=1000 + seed, challengers=CHALLENGERS, rows=n, gain=2 * population.margin)
              / CHALLENGERS for seed, n in enumerate(rows)]
    return [population.name, str(rounds), str(min(rows)), f"{median(rows):.0f}", str(max(rows)),
            f"{100 * sum(shares) / rounds:.1f} %", f"{100 * min(shares):.1f} %",
            str(sum(share < LEAST_FOUND / CHALLENGERS for share in shares))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="seeds (10)")
    rounds = parser.parse_args().rounds
    print(tables.machine())
    lines = [line for population in KINDS for line in found(population, rounds)]
    lines.append(row("three deciding suites: equal", 400, counted(rounds, lambda seed: family(seed, 400, limit=None)),
                     f"<= {MOST_FALSE}"))
    lines.append(row("a guard of 400 rows: a fall by the limit", 400,
                     counted(rounds, lambda seed: past_the_guard(seed, 400)), "2.5 %"))
    lines += [lopsided(rows, rounds) for rows in (100, 300, 1000)]
    for line in tables.lines(("400 challengers a round", "rows", "challengers", "promoted", "worst round", "limit"),
                             lines):
        print(line)
    print()
    for line in tables.lines(("50 equal challengers in a row", "rows", "times", "mean moves", "none", "one", "two",
                              "more"), [in_a_row(population, 10 * rounds) for population in KINDS]):
        print(line)
    print()
    for line in tables.lines((f"plans from {PILOT_ROWS} rows", "plans", "rows: least", "median", "most",
                              "found: mean", "least", "plans under 80 %"),
                             [planned(population, 2 * rounds) for population in KINDS]):
        print(line)


if __name__ == "__main__":
    main()
