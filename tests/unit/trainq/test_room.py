"""Room on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainq import room
from trainq.errors import StorageFullError


def test_what_fits_may_be_begun_and_what_does_not_is_refused_with_both_figures(tmp_path: Path) -> None:
    found = room.usage(tmp_path)
    assert 0 < found.free_bytes == room.free_bytes(tmp_path) <= found.total_bytes
    room.refuse_without(tmp_path, 1, "a byte")
    with pytest.raises(StorageFullError, match=r"no room left for a sea: it needs [\d.]+ MiB, and the disk has"):
        room.refuse_without(tmp_path, 1 << 60, "a sea")


def test_what_is_kept_is_not_taken(tmp_path: Path) -> None:
    room.refuse_held(tmp_path, 0.0, 0.0, "a byte")
    for gib, percent in ((1e9, 0.0), (0.0, 100.0)):
        with pytest.raises(StorageFullError, match=r"no room for a sea: .* are kept \(\[disk\] hold_gib\)"):
            room.refuse_held(tmp_path, gib, percent, "a sea")
