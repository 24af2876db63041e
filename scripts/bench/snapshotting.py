"""``scripts/bench/snapshot``: ten snapshots of a generation of ten files, of which eight stay the same.

Every way takes each snapshot in turn, so that a busy disk is busy for all. All are durable when they say that they are
done: trainq syncs each file, ``cp`` is followed by ``sync``, restic and borg sync what they write. restic and borg have
no compression and no encryption worth speaking of (restic cannot be without; borg's is off). trainq and ``b3sum`` hash
with BLAKE3. "verified" is what each has proven: trainq compares each file with the digest that it was sealed with, in
the pass that copies it; ``cp + b3sum`` reads the copy back; restic and borg trust what they read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from bench import tables
from trainq import checkpoints, files, manifests, snapshots
from trainq.checkpoints import CheckpointFacts, Cursor, Name

FILES, UNCHANGED = 10, 8
_COPY_AND_HASH = "cp -r {source} {target} && sync -f {target} && b3sum {target}/*"


def make_generation(folder: Path, number: int, size_bytes: int, before: Path | None) -> Path:
    """A sealed generation; eight of its ten files are those of ``before``."""
    facts = CheckpointFacts(generation=number, step=number, cursor=Cursor(), journal_seq=1, fingerprint={}, rows_seen=0,
                            tokens_seen=0, model="m", created_by="bench", reason="job_end")
    path = folder / str(Name(number, number))
    with files.publish_directory(path) as made:
        for at in range(FILES):
            name = f"part-{at}.safetensors"
            if before is not None and at < UNCHANGED:
                shutil.copyfile(before / name, made / name)
            else:
                (made / name).write_bytes(os.urandom(size_bytes))
        manifests.seal(made, checkpoints.KIND, msgspec.to_builtins(facts))
    return path


def take(store: Path, source: Path) -> None:
    files.make_directory(store)
    snapshots.create(store, source, jobs=b"", job_count=0, created_at=0.0, created_by="bench", on_chunk=lambda _: None)


def run(words: list[str], environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(words, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr or done.stdout}")


def ways(folder: Path) -> dict[str, Callable[[Path], None]]:
    """Each way to take a snapshot of a generation; those of tools that are not installed are left out."""
    shared, copies, copied = folder / "shared", folder / "copies", folder / "cp"
    found: dict[str, Callable[[Path], None]] = {
        "trainq, content shared": lambda source: take(shared, source),
        "trainq, a store for each": lambda source: take(copies / source.name, source)}
    if shutil.which("b3sum"):
        copied.mkdir()
        found["cp -r + sync + b3sum"] = lambda source: run(
            ["sh", "-c", _COPY_AND_HASH.format(source=source, target=copied / source.name)])
    if shutil.which("restic"):
        repository = {"RESTIC_REPOSITORY": str(folder / "restic"), "RESTIC_PASSWORD": "x",
                      "RESTIC_CACHE_DIR": str(folder / "restic-cache"), "RESTIC_COMPRESSION": "off"}
        run(["restic", "init", "--repository-version", "2"], repository)
        found["restic backup"] = lambda source: run(["restic", "backup", "-q", str(source)], repository)
    if shutil.which("borg"):
        setting = {"BORG_BASE_DIR": str(folder / "borg-base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        run(["borg", "init", "-e", "none", str(folder / "borg")], setting)
        found["borg create"] = lambda source: run(
            ["borg", "create", "-C", "none", f"{folder / 'borg'}::{source.name}", str(source)], setting)
    return found


def used_bytes(path: Path) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in path.rglob("*") if entry.is_file())


def measure(folder: Path, count: int, size_bytes: int) -> dict[str, list[float]]:
    generations = folder / "checkpoints"
    generations.mkdir()
    made = ways(folder)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    before: Path | None = None
    for number in range(1, count + 1):
        source = make_generation(generations, number, size_bytes, before)
        if before is not None:
            shutil.rmtree(before)
        before = source
        for name, way in made.items():
            started = time.perf_counter()
            way(source)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--snapshots", type=int, default=10, metavar="N", help="how many (10)")
    parser.add_argument("--mib", type=int, default=100, metavar="N", help="MiB of each of the ten files (100)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    try:
        seconds = measure(folder, given.snapshots, given.mib << 20)
        stores = {"trainq, content shared": "shared", "trainq, a store for each": "copies",
                  "cp -r + sync + b3sum": "cp", "restic backup": "restic", "borg create": "borg"}
        rows = [(name, f"{taken[0]:.2f}", *(f"{value:.2f}" for value in (
            min(taken[1:]), sorted(taken[1:])[(len(taken) - 1) // 2], max(taken[1:]))),
            f"{used_bytes(folder / stores[name]) / 1e9:.2f}") for name, taken in seconds.items()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(tables.machine())
    header = ("seconds", "first", "next: min", "median", "max", f"GB after {given.snapshots}")
    for line in tables.lines(header, rows):
        print(line)


if __name__ == "__main__":
    main()
