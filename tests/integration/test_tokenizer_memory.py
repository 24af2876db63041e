"""What tokenizers leave behind does not grow with the files that were prepared."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# A built-in tokenizer with the library's cache keeps 35 MB of each 5,000 rows of that length, for ever.
_MOST_GROWTH_MIB = 15
_PROBE = """
import random
from trainq import builtin
from trainq.samples import TextSample
from trainq.textcodec import TextCodec

dice = random.Random(0)
for _ in range(3):
    codec = TextCodec.load(builtin.folder())
    for _ in range(40):
        codec.encode_batch([TextSample("".join(dice.choices("abcdefgh ", k=200)) + "x") for _ in range(125)], 1024)
    print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def test_a_codec_that_is_let_go_leaves_nothing_behind() -> None:
    said = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
    first, _, last = map(int, said.split())
    assert last - first < _MOST_GROWTH_MIB
