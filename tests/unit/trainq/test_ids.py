"""What may stand where an id is expected."""

from __future__ import annotations

import pytest

from trainq import ids


def test_what_is_made_is_valid() -> None:
    assert ids.is_id(ids.new_request_id())
    assert ids.is_id(ids.new_session_id())
    assert ids.is_id("train-7")


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a/b", "a" * 65, "train-7\n", "\ntrain-7"])
def test_what_is_no_id(text: str) -> None:
    assert not ids.is_id(text)


def test_digests() -> None:
    assert ids.is_digest("0f" * 32)
    assert not ids.is_digest("0f" * 32 + "\n")
    assert not ids.is_digest("0F" * 32)
    assert not ids.is_digest("0f" * 31)
