"""Overviews as a broker sends them, and pictures folded from them, for tests that need no broker."""

from __future__ import annotations

from typing import Any

from trainq import picture
from trainq.figures import Observations
from trainq.jobs import ChampionMove, ChampionView, JobKind, JobState
from trainq.messages import (
    CheckpointScores,
    JobView,
    JudgementFigure,
    LearningFigures,
    LevelFigure,
    Lifecycle,
    Overview,
    Progress,
    ScoreFigure,
    ServiceView,
)

PIDS = {name: number for number, name in enumerate(picture.SERVICES, start=100)}


def service(name: str, state: Lifecycle = Lifecycle.RUNNING, detail: str = "", age: float = 1.0) -> ServiceView:
    return ServiceView(name=name, session="s", pid=PIDS[name], state=state, detail=detail, started_at=900.0,
                       age_seconds=age)


def job(**changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "id": "train-1", "number": 1, "kind": JobKind.TRAIN, "state": JobState.QUEUED, "name": "a.jsonl",
        "priority": "normal", "origin": "people", "digest": "d", "size_bytes": 1, "prepared": True, "rows": 1,
        "tokens": 1, "attempts": 0, "failures": 0, "submitted_at": 0.0, "started_at": None, "ended_at": None,
        "retry_at": 0.0, "reason": "", "cancel_reason": None, "result": None, **changes}
    return JobView(**fields)


def overview(**changes: Any) -> Overview:
    fields: dict[str, Any] = {
        "journal_id": "j", "seq": 7, "at": 999.0, "paused_reason": None, "counts": {}, "running": [], "waiting": [],
        "waiting_reason": "the queue is empty", "generation": 1, "checkpoint": "g", "step": 0,
        "services": [service(name) for name in picture.SERVICES], **changes}
    return Overview(**fields)


def fold(of: Overview | None, age: float | None = 0.5, dead: str = "",
         observed: Observations = picture.NOTHING_OBSERVED) -> picture.StatusPicture:
    return picture.fold(of, overview_age_seconds=age, now_wall=1000.0, silent_after_seconds=10.0,
                        is_alive=lambda pid: pid != PIDS.get(dead), observed=observed)


RUNNING = job(state=JobState.RUNNING, progress=Progress(step=3, steps=10, loss=1.25))

CHAMPION, CHALLENGER = "g000002-s00000020", "g000005-s00000050"


def judgement(**changes: Any) -> JudgementFigure:
    fields: dict[str, Any] = {"checkpoint": CHALLENGER, "champion": CHAMPION, "outcome": "keep", "regressed": False,
                              "reasons": ("held-out: the gain is no larger than the noise",), "at": 970.0, **changes}
    return JudgementFigure(**fields)


def scores(checkpoint: str, loss: float) -> CheckpointScores:
    return CheckpointScores(checkpoint=checkpoint, at=960.0, scores=(
        ScoreFigure(suite="arithmetic-l01", kind="generate", n=40, mean=0.5, low=0.4, high=0.6),
        ScoreFigure(suite="held-out", kind="loss", n=300, mean=loss, low=loss - 0.1, high=loss + 0.1),
        ScoreFigure(suite="job-train-7", kind="loss", n=6, mean=loss, low=loss - 0.1, high=loss + 0.1)))


def learning(**changes: Any) -> LearningFigures:
    """A champion, a newer checkpoint that is none, and a generator that has moved."""
    fields: dict[str, Any] = {
        "champion": ChampionView(seq=30, checkpoint=CHAMPION, before="", how=ChampionMove.FIRST, reason="the first",
                                 by="evaluate-1", at=700.0),
        "judgement": judgement(), "newest": scores(CHALLENGER, 2.5), "of_champion": scores(CHAMPION, 2.4),
        "levels": (LevelFigure(generator="arithmetic", level=2, checkpoint=CHAMPION, since=700.0),
                   LevelFigure(generator="syllo", level=1)), "evaluated_at": 970.0, **changes}
    return LearningFigures(**fields)
