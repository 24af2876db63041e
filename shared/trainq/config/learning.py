"""The sections of what makes the model better: ``[datagen]``, ``[evaluation]``, ``[promotion]``, ``[curriculum]``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from trainq.config.section import Section
from trainq.errors import ConfigurationProblem

# That of trainq.curriculum.Ladder, which lies above this module.
LEVEL_CONFIDENCE = 0.95
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

_Count = Annotated[int, Meta(ge=1, le=100_000)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Fraction = Annotated[float, Meta(ge=0, le=1)]
_Open = Annotated[float, Meta(gt=0, lt=1)]


class GeneratorSettings(Section, frozen=True, kw_only=True):
    """[datagen.generators.NAME]: something that makes files, and how much of it there is to be.

    ``use`` is the generator (empty: that of the name). ``weight`` is its part of all that is generated (0: none),
    ``level`` how hard its first files are, and ``options`` are its own.
    """

    use: str = ""
    weight: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0
    level: Annotated[int, Meta(ge=1, le=1000)] = 1
    options: dict[str, Any] = field(default_factory=dict)


DEFAULT_GENERATORS = {"syllo": GeneratorSettings(), "arithmetic": GeneratorSettings()}


class DatagenSettings(Section, frozen=True, kw_only=True):
    """[datagen]: files that are made when few wait.

    A file of ``rows`` is made when fewer than ``queue_files`` wait, and not before ``cooldown_seconds`` after the last
    one; it may take ``limit_seconds``. Of the rows of the last ``window_jobs`` files, and ``window_hours``, at most
    ``max_share`` are generated, as long as people have submitted any of them; and of the generated ones at most
    ``max_selfplay_share`` are the model's own answers. ``seed`` is that of the first file, from which those of
    all follow.
    """

    queue_files: Annotated[int, Meta(ge=1, le=1000)] = 2
    rows: _Count = 1000
    limit_seconds: _Seconds = 300.0
    cooldown_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    max_share: _Fraction = 0.5
    max_selfplay_share: _Fraction = 0.2
    window_jobs: Annotated[int, Meta(ge=1, le=1000)] = 100
    window_hours: Annotated[float, Meta(gt=0, le=87_600)] = 24.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    generators: dict[str, GeneratorSettings] = field(default_factory=lambda: dict(DEFAULT_GENERATORS))


class EvaluationSettings(Section, frozen=True, kw_only=True):
    """[evaluation]: when the model is scored, and how.

    The head is scored after ``after_jobs`` trained files (0: only when asked for). Of each generator the fixed problems
    of a level are ``problems``. ``batch_rows`` go through the model at once; one suite may take ``limit_seconds``.
    Of the held-out rows of ``held_out_jobs`` trained files (people's first) at most ``held_out_rows`` each are a suite
    of their own.
    Intervals have ``confidence``. ``device`` says where: on the GPU it waits until the trainer has given it back.
    ``threads`` 0: half of the processors.
    """

    after_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    problems: Annotated[int, Meta(ge=1, le=2000)] = 100
    batch_rows: Annotated[int, Meta(ge=1, le=4096)] = 32
    limit_seconds: _Seconds = 1800.0
    held_out_jobs: Annotated[int, Meta(ge=0, le=500)] = 20
    held_out_rows: Annotated[int, Meta(ge=1, le=10_000)] = 64
    confidence: _Open = 0.95
    device: Literal["cpu", "gpu"] = "cpu"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0


class PromotionSettings(Section, frozen=True, kw_only=True):
    """[promotion]: when another checkpoint becomes champion.

    ``auto`` moves it where the numbers say so, ``ask`` proposes it to a person, ``off`` only scores. A suite of
    ``suites`` decides (``held-out``: the loss on a suite that the evaluator makes, of generated problems where they are
    trained, else of files' held-out rows): the challenger must be better by ``margin`` at least, and by more than the
    noise, with ``alpha`` as the chance to be wrong, on ``min_rows`` rows.
    No guarded suite may fall by more than its ``limit``. On a significant fall there is an alarm, and with
    ``on_regression = "restore"`` the line goes back to the champion. ``publish_to`` are places to which each champion
    is put, and ``publish_keep`` how many former ones stay at each (0: all).
    """

    mode: Literal["auto", "ask", "off"] = "auto"
    suites: tuple[str, ...] = ("held-out",)
    alpha: _Open = 0.01
    margin: Annotated[float, Meta(ge=0, le=1_000)] = 0.01
    min_rows: Annotated[int, Meta(ge=2, le=1_000_000)] = 300
    on_regression: Literal["alarm", "restore"] = "alarm"
    publish_to: tuple[str, ...] = ()
    publish_keep: Annotated[int, Meta(ge=0, le=1_000)] = 0


class CurriculumSettings(Section, frozen=True, kw_only=True):
    """[curriculum]: how hard what is generated becomes.

    A level goes up when the lower bound of its score passes ``up`` on ``min_problems`` fixed problems at least, and
    down when the upper bound of the one below falls under ``down``.
    """

    enabled: bool = True
    up: _Open = 0.8
    down: _Open = 0.7
    min_problems: Annotated[int, Meta(ge=1, le=10_000)] = 100


def validate(datagen: DatagenSettings, evaluation: EvaluationSettings, promotion: PromotionSettings,
             curriculum: CurriculumSettings, problems: list[ConfigurationProblem]) -> None:
    """Add every mistake in these sections to ``problems``."""
    problems.extend(ConfigurationProblem(key=f"datagen.generators.{name}", problem="no name for a generator",
                                         mend="use a-z, 0-9, - and _, at most 32")
                    for name, each in datagen.generators.items()
                    if not _NAME.fullmatch(name) or (each.use and not _NAME.fullmatch(each.use)))
    if curriculum.down > curriculum.up:
        problems.append(ConfigurationProblem(
            key="curriculum.down", problem=f"{curriculum.down:g} is above up, {curriculum.up:g}: a level that is "
            "passed would be lost at once", mend="make it at most up"))
    if curriculum.enabled and evaluation.problems < curriculum.min_problems:
        problems.append(ConfigurationProblem(
            key="evaluation.problems", problem=f"{evaluation.problems} are fewer than [curriculum] min_problems, "
            f"{curriculum.min_problems}: no level would ever move",
            mend="make it as many, or [curriculum] enabled = false"))
    if curriculum.enabled and evaluation.confidence < LEVEL_CONFIDENCE:
        problems.append(ConfigurationProblem(
            key="evaluation.confidence", problem=f"no level moves by an interval of less than {LEVEL_CONFIDENCE:g}",
            mend=f"make it {LEVEL_CONFIDENCE:g} at least, or [curriculum] enabled = false"))
    if not promotion.suites:
        problems.append(ConfigurationProblem(
            key="promotion.suites", problem="no suite decides, so nobody could ever become champion",
            mend='write ["held-out"], or mode = "off"'))
    problems.extend(ConfigurationProblem(key="promotion.publish_to", problem=f"{place[:100]!r} is no place",
                                         mend="write a URL of fsspec's, or an absolute path")
                    for place in promotion.publish_to
                    if not 0 < len(place) <= 4096 or not (place.startswith("/") or "://" in place))
