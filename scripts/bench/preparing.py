"""``scripts/bench/prepare``: from file to shard, beside two peers that do less, in turn, in one run.

Each run is a process of its own: trainq and the plain loop are :mod:`bench.one_preparation`, the other peer is
``datasets`` (:mod:`bench.peer_datasets`). What the template and the tokenizer take is measured within each and taken
away for the columns that say so. The peers make no masks, look for no duplicates, report nothing and sync nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import zstandard

from bench import tables
from trainq import builtin

PEERS = ("plain loop", "datasets")
_WORDS = ("the", "number", "model", "each", "weight", "learns", "line", "token", "file", "seven", "eleven", "left",
          "twice", "apples", "sold", "how", "many", "does", "she", "have", "after", "every", "week", "größe")


class Timed(NamedTuple):
    """``seconds`` from file to disk, ``encoding`` of them in template and tokenizer."""

    seconds: float
    encoding: float


def rows_of(kind: str, count: int, data: Path) -> Iterator[dict[str, Any]]:
    """Different rows, always the same: of GSM8K where it lies in ``data``, else of words."""
    pairs = itertools.cycle(_pairs(data))
    for number, (question, answer) in enumerate(itertools.islice(pairs, count)):
        if kind == "text":
            yield {"text": f"{question}\n{answer} ({number})"[:1000]}
        else:
            yield {"messages": [{"role": "user", "content": f"{question} ({number})"[:500]},
                                {"role": "assistant", "content": answer[:450]}]}


def _pairs(data: Path) -> list[tuple[str, str]]:
    found = [orjson.loads(line) for path in sorted(data.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    if found:
        return [(row["question"], row["answer"]) for row in found]
    dice = random.Random(0)
    return [(" ".join(dice.choices(_WORDS, k=45)), " ".join(dice.choices(_WORDS, k=55))) for _ in range(2000)]


def sources(folder: Path, counts: Sequence[int], data: Path) -> Iterator[tuple[str, int, Path]]:
    """What is measured: a name, its rows, its file."""
    for count, kind in itertools.product(counts, ("chat", "text")):
        path = folder / f"{kind}-{count}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows_of(kind, count, data)))
        yield f"{kind}, {count} rows", count, path
        packed = path.with_suffix(".jsonl.zst")
        packed.write_bytes(zstandard.compress(path.read_bytes()))
        yield f"{kind}, {count} rows, .zst", count, packed


def run(words: Sequence[str], folder: Path) -> Timed:
    """One process that makes what it makes in ``folder``."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    said = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout.split()
    shutil.rmtree(folder, ignore_errors=True)
    return Timed(float(said[0]), float(said[1]))


def ways_to(datasets: str | None) -> dict[str, list[str]]:
    """The beginning of each way's command; file and folder follow."""
    one = [sys.executable, "-m", "bench.one_preparation"]
    found = {"trainq": [*one, "trainq"], "plain loop": [*one, "plain"]}
    if datasets:
        found["datasets"] = [datasets, "-m", "bench.peer_datasets", str(builtin.folder())]
    return found


def measure(folder: Path, ways: Mapping[str, list[str]], rounds: int, counts: Sequence[int],
            data: Path) -> Iterator[tuple[str, int, int, dict[str, Timed]]]:
    """Name, rows, bytes of lines, and for each way the run with the median of its seconds."""
    for name, count, source in list(sources(folder, counts, data)):
        runs: dict[str, list[Timed]] = {way: [] for way in ways}
        for number, (way, words) in itertools.product(range(rounds), ways.items()):
            runs[way].append(run([*words, str(source), str(folder / "run")], folder / "run"))
            print(f"  {runs[way][-1].seconds:8.3f} s  {name}, {way}, round {number + 1}", file=sys.stderr)
        size_bytes = source.with_suffix("").stat().st_size if source.suffix == ".zst" else source.stat().st_size
        yield name, count, size_bytes, {way: sorted(found)[rounds // 2] for way, found in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often (5)")
    parser.add_argument("--rows", default="2000,20000", metavar="N,N", help="rows of the files (2000,20000)")
    parser.add_argument("--datasets", metavar="PYTHON", help="the interpreter of an environment that has datasets")
    parser.add_argument("--data", type=Path, default=Path("/nowhere"), metavar="FOLDER",
                        help="GSM8K as .jsonl files of question and answer; without it, rows are made of words")
    given = parser.parse_args()
    ways = ways_to(given.datasets)
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    try:
        found = list(measure(folder, ways, given.rounds, [int(word) for word in given.rows.split(",")], given.data))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(tables.machine())
    for title, encoded in (("rows/s, from file to disk", True), ("rows/s, without template and tokenizer", False)):
        print()
        for line in table(title, found, encoded=encoded):
            print(line)


def table(title: str, found: Sequence[tuple[str, int, int, dict[str, Timed]]], *, encoded: bool) -> list[str]:
    """Rows a second of each way, MB a second of ours, and how much of each peer's speed that is."""
    rows = []
    for name, count, size_bytes, runs in found:
        seconds = {way: run.seconds - (0.0 if encoded else run.encoding) for way, run in runs.items()}
        ours = seconds["trainq"]
        rows.append((name, *(f"{count / one:.0f}" for one in seconds.values()), f"{size_bytes / 1e6 / ours:.1f}",
                     *(f"{seconds[peer] / ours:.2f}" for peer in PEERS if peer in seconds)))
    ways = list(found[0][3])
    return tables.lines((title, *ways, "trainq MB/s", *(f"of {peer}" for peer in PEERS if peer in ways)), rows)


if __name__ == "__main__":
    main()
