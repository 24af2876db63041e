"""The digest set agrees with an ordinary set, and costs what it says."""

from __future__ import annotations

import time
import tracemalloc

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from trainq.duplicates import DigestSet

# Few first bytes and many NUL bytes, so that keys fall into the same bucket and end like numpy's padding.
_DIGESTS = st.builds(lambda number, size_bytes: bytes((0, 1, 255)[number // 3**at % 3] for at in range(size_bytes)),
                     st.integers(0, 3**32 - 1), st.integers(16, 32))


@settings(max_examples=80, deadline=None)
@given(st.lists(_DIGESTS, max_size=60), st.integers(1, 10))
def test_it_holds_exactly_what_was_added(digests: list[bytes], most_waiting: int) -> None:
    found, expected = DigestSet(most_waiting), set[bytes]()
    for digest in digests:
        assert (digest in found) == (digest[:16] in expected)
        if digest not in found:
            found.add(digest)
        expected.add(digest[:16])
        assert digest in found
    assert len(found) == len(expected)


def test_a_row_costs_sixteen_bytes() -> None:
    digests = [blake3(number.to_bytes(8, "little")).digest() for number in range(65_536)]
    seen = DigestSet(most_waiting=65_536)
    tracemalloc.start()
    try:
        for digest in digests:
            seen.add(digest)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 65_536 * 16 + 256 * 200
    started = time.monotonic()
    assert all(digest in seen for digest in digests[:1000])
    assert time.monotonic() - started < 1
