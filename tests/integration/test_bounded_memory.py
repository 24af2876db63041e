"""Memory does not grow with the input: each is judged by a process of its own, whose peak the kernel tells."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from places import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# A small file takes some 100 MiB: the interpreter and the tokenizer. A line may have 16 MiB, and is there a few times.
MOST_MIB = 300


_JUDGE = """
import sys
from pathlib import Path
from trainq.cli import main
main(["validate", sys.argv[1]])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def judged(path: Path, home: Path) -> tuple[str, float]:
    """What ``trainq validate`` says, and its peak memory in MiB.

    VmHWM (proc(5)), since ru_maxrss is inherited through exec: it would be the peak of this process.
    """
    environment = {**os.environ, "TRAINQ_HOME": str(home), "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", _JUDGE, str(path)], env=environment, text=True, check=True,
                          capture_output=True)
    return done.stdout, int(done.stderr.splitlines()[-1]) / 1024


def _rows() -> Iterator[bytes]:
    """100 MB of different rows, each too long for the model and so passed by quickly, and one that is trained."""
    yield b'{"text": "short"}\n'
    padding = b"x" * 1_000_000
    for number in range(100):
        yield b'{"text": "%d %s"}\n' % (number, padding)


def _many_rows(path: Path) -> None:
    with path.open("wb") as stream:
        stream.writelines(_rows())


def _gzip_bomb(path: Path) -> None:
    squeezed = zlib.compressobj(wbits=31, level=1)
    with path.open("wb") as stream:
        for _ in range(300):
            stream.write(squeezed.compress(bytes(1_000_000)))
        stream.write(squeezed.flush())


def _zstd_bomb(path: Path) -> None:
    path.write_bytes(zstandard.ZstdCompressor(level=1).compress(bytes(1_000_000_000)))


def _blank_lines(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\n" * 20_000_000, 1))


def _bad_rows(path: Path) -> None:
    path.write_bytes(b"".join(b"[%d\n" % number for number in range(100_000)))


@pytest.mark.parametrize(("make", "says"), [
    (_many_rows, "101 rows: 1 good, 0 bad, 100 too long"),
    (_gzip_bomb, "the line is longer than 16 MiB"),
    (_zstd_bomb, "the line is longer than 16 MiB"),
    (_blank_lines, "it has no rows"),
    (_bad_rows, "100000 rows: 0 good, 100000 bad"),
])
def test_memory_is_bounded(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    make(path)
    said, mib = judged(path, tmp_path / "home")
    assert says in said
    assert len(said) < 20_000
    assert mib < MOST_MIB
