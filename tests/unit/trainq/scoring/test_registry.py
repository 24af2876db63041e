"""Scorers by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainq.errors import InputError
from trainq.scoring import make, names
from trainq.syllo import words


def test_each_is_found_and_another_is_named_with_its_mend(tmp_path: Path) -> None:
    assert names() == ("final-number", "exact", "syllo", "command")
    for name in names()[:-1]:
        made = make(name, {}, tmp_path)
        assert (made.name, made.chance) == (name, 0.0)
        assert made.version == ("1" if name != "syllo" else f"2 {words.digest()[:16]}"), "the list is part of it"
    with pytest.raises(InputError, match=r"scorer: there is no scorer 'finalnumber' \(did you mean final-number\?\)"):
        make("finalnumber", {}, tmp_path)
    with pytest.raises(InputError, match="known are: final-number, exact"):
        make("", {}, tmp_path)
    with pytest.raises(InputError, match=r"options\.ignore_case: Expected `bool`, got `str`"):
        make("exact", {"ignore_case": "yes"}, tmp_path)
