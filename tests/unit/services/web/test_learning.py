"""The rows of a result, page by page."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.web import learning
from services.web.learning import RowsQuery, page_of
from tests.unit.trainq.test_evaluations import KEY, facts, rows
from trainq import evaluations, suites
from trainq.config import Home
from trainq.errors import NotFoundError

ASKED = [{"prompt": f"{number} + 1?", "completion": str(number + 1)} for number in range(5)]


def test_each_row_comes_once_and_long_answers_in_short_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    evaluations.publish(home, facts(), rows(1.0, None, 0.0, 1.0, 0.0))
    first = page_of(home, KEY, RowsQuery(limit=2))
    assert ([row.row for row in first.rows], first.next_after, first.facts.mean) == ([0, 1], 1, 0.5)
    rest = page_of(home, KEY, RowsQuery(after=1))
    assert ([row.row for row in rest.rows], rest.next_after) == ([2, 3, 4], None)
    monkeypatch.setattr(learning, "PAGE_BYTES", 6)
    found: list[int] = []
    after: int | None = None
    while True:
        page = page_of(home, KEY, RowsQuery(after=after))
        found += [row.row for row in page.rows]
        after = page.next_after
        if after is None:
            break
    assert found == [0, 1, 2, 3, 4]


def test_with_the_question_and_the_reference_as_long_as_the_suite_is_what_it_was(tmp_path: Path) -> None:
    home = Home(tmp_path)
    suite = suites.write(home.suites / "sums", ASKED, kind="generate", scorer="exact")
    evaluations.publish(home, facts(suite_digest=suite.digest), rows(1.0, None, 0.0, 1.0, 0.0))
    last = page_of(home, KEY, RowsQuery(after=3)).rows[0]
    assert (last.question, last.reference, last.answer, last.score) == ("4 + 1?", "5", "four", 0.0)
    (home.suites / "sums" / suites.SETTINGS_NAME).write_text('kind = "loss"')
    assert page_of(home, KEY, RowsQuery(after=3)).rows[0].reference == ""


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        page_of(Home(tmp_path), KEY, RowsQuery())
