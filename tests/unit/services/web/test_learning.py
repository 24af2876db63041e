"""The rows of a result, page by page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.web import learning
from services.web.learning import EvaluationRows, RowsQuery
from tests.unit.trainq.test_evaluations import KEY, facts, rows
from trainq import evaluations
from trainq.config import Home
from trainq.errors import NotFoundError


def page(home: Home, **query: int) -> EvaluationRows:
    call: Any = SimpleNamespace(site=SimpleNamespace(home=home))
    return learning._rows(call, KEY, RowsQuery(**query))


def test_each_row_comes_once_and_long_answers_in_short_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    evaluations.publish(home, facts(), rows(1.0, None, 0.0, 1.0, 0.0))
    first = page(home, limit=2)
    assert ([row.row for row in first.rows], first.next_after, first.facts.mean) == ([0, 1], 1, 0.5)
    rest = page(home, after=1)
    assert ([row.row for row in rest.rows], rest.next_after) == ([2, 3, 4], None)
    monkeypatch.setattr(learning, "PAGE_BYTES", 6)
    found, after = [], -1
    while True:
        one = page(home, **({"after": after} if after >= 0 else {}))
        found += [row.row for row in one.rows]
        if one.next_after is None:
            break
        after = one.next_after
    assert found == [0, 1, 2, 3, 4]


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        page(Home(tmp_path))
