"""``trainq scores``: what hangs on a score is beside it; in the matrix stands only what can be compared."""

from __future__ import annotations

from pathlib import Path

from trainq import config
from trainq.cli.scoring import _matrix, lines_of, why_no_files
from trainq.jobs import ScoreView


def score(checkpoint: str, suite: str, mean: float, kind: str = "loss", digest: str = "d") -> ScoreView:
    return ScoreView(checkpoint=checkpoint, weights="w", suite=suite, suite_digest=digest, kind=kind, scorer="", n=9,
                     mean=mean, low=mean, high=mean, confidence=0.95, seed=0, evaluation="e", by="evaluate-1", at=1.0)


def test_the_best_has_an_asterisk_and_those_that_are_alike_have_none() -> None:
    new, old = "g000009-s00000020", "g000008-s00000010"
    found = [score(new, "alike", 0.0, "generate"), score(new, "loss", 2.5), score(new, "right", 0.4, "generate"),
             score(old, "alike", 0.0, "generate"), score(old, "loss", 2.0), score(old, "right", 0.3, "generate")]
    assert [line.split() for line in _matrix(found, None)] == [
        ["suite", "g000008", "g000009"], ["alike", "0.000", "0.000"], ["loss", "2.000*", "2.500"],
        ["right", "0.300", "0.400*"]]


def test_scores_on_other_rows_have_a_line_of_their_own() -> None:
    found = [score("g000009-s00000020", "s", 2.5, digest="now"), score("g000008-s00000010", "s", 2.0, digest="before")]
    assert [line.split() for line in _matrix(found, None)] == [
        ["suite", "g000008", "g000009"], ["s", "(now)", "2.500"], ["s", "(before)", "2.000"]]


def with_figures(suite: str, truncated: int = 0, left_out: int = 0, credit: float | None = None) -> ScoreView:
    return ScoreView(checkpoint="g000002-s00000020", weights="w", suite=suite, suite_digest="d", kind="generate",
                     scorer="exact", n=90, mean=0.5, low=0.4, high=0.6, confidence=0.95, seed=0, evaluation="e",
                     by="evaluate-1", at=0.0, truncated=truncated, left_out=left_out, credit=credit)


def test_truncated_answers_and_rows_that_do_not_fit_are_told_where_there_are_some() -> None:
    titles, first, second = lines_of([with_figures("a", 7, 3, 0.25), with_figures("b")], None)
    assert titles.split()[3:9] == ["between", "of", "truncated", "left", "out", "credit"]
    assert first.split()[6:10] == ["90", "7", "3", "0.250"]
    assert second.split()[6:8] == ["90", "exact"]
    assert "truncated" not in lines_of([with_figures("b")], None)[0]
    # Where room is short, other columns go first.
    assert "truncated" in lines_of([with_figures("a", 7)], 70)[0]


def test_why_no_file_has_a_line_in_the_matrix_is_said_where_somebody_scores(tmp_path: Path) -> None:
    def why(found: list[ScoreView], **environment: str) -> str:
        return why_no_files(config.load({"TRAINQ_HOME": str(tmp_path / "home"), **environment}, tmp_path).settings,
                            found)

    found = [score("g000009-s00000020", "sums", 2.5)]
    assert "[data] held_out_fraction is 0" in why(found, TRAINQ_SERVICES_PROFILE="full")
    assert not why([*found, score("g000009-s00000020", "job-train-7", 2.5)], TRAINQ_SERVICES_PROFILE="full")
    assert not why(found, TRAINQ_SERVICES_PROFILE="full", TRAINQ_DATA_HELD_OUT_FRACTION="0.1")
    assert not why(found, TRAINQ_SERVICES_PROFILE="full", TRAINQ_EVALUATION_HELD_OUT_JOBS="0")
    assert not why(found, TRAINQ_SERVICES_PROFILE="minimal")
