"""Scorers by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainq.errors import InputError
from trainq.scoring import make, names


def test_each_is_found_and_another_is_named_with_its_mend(tmp_path: Path) -> None:
    assert names() == ("final-number", "exact", "syllo", "command")
    for name in names()[:-1]:
        made = make(name, {}, tmp_path)
        assert (made.name, made.version, made.chance) == (name, 1, 0.0)
    with pytest.raises(InputError, match=r"scorer: there is no scorer 'finalnumber' \(did you mean final-number\?\)"):
        make("finalnumber", {}, tmp_path)
    with pytest.raises(InputError, match="known are: final-number, exact"):
        make("", {}, tmp_path)
    with pytest.raises(InputError, match=r"options\.ignore_case: Expected `bool`, got `str`"):
        make("exact", {"ignore_case": "yes"}, tmp_path)
