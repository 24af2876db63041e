"""The band of a file follows from its counts and the limits, and is that of the worst measure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trainq.config import MEASURES, GateSettings
from trainq.quality import Band, Counts, Measures, Measuring, judge

COUNTS = Counts(read=1000, rejected=0, duplicate=0, long=0, tokens=1000, trained_tokens=500)
NOTHING = Measuring(10).measures()
GATE = GateSettings()


def of(counts: dict[str, int], **measures: Any) -> tuple[Band, tuple[str, ...]]:
    found = judge(msgspec.structs.replace(COUNTS, **counts), msgspec.structs.replace(NOTHING, **measures), GATE)
    return found.band, found.reasons


def test_a_file_without_fault_is_excellent() -> None:
    assert of({}) == (Band.EXCELLENT, ())
    assert judge(msgspec.structs.replace(COUNTS, read=0, tokens=0, trained_tokens=0), NOTHING, GATE).band == "excellent"


@pytest.mark.parametrize(("counts", "measures", "band", "words"), [
    ({"duplicate": 11}, {}, Band.GOOD, "11 of 1000 rows are duplicates (1.1%; [gate] duplicate 1.0%)"),
    ({"duplicate": 501}, {}, Band.POOR, "duplicates"), ({"long": 101}, {}, Band.DEGRADED, "longer than the window"),
    ({"trained_tokens": 0}, {}, Band.POOR, "1000 of 1000 tokens are in no answer"),
    ({"rejected": 11}, {"overlap": 11}, Band.POOR, "evaluation suite"),
    ({"rejected": 11}, {}, Band.DEGRADED, "are bad"),
    ({"rejected": 500}, {"near_held_out": 489}, Band.DEGRADED, "11 of"),
    ({}, {"damaged": 101, "damage": {"mojibake": 101}, "damaged_lines": (3, 4, 5, 6)}, Band.POOR,
     "damaged text (mojibake), lines 3, 4, 5 ..."),
    ({}, {"checkable": 10, "wrong": 1, "wrong_lines": (8,)}, Band.POOR, "wrong, line 8 (10.0%")])
def test_each_measure_makes_a_band(counts: dict[str, int], measures: dict[str, Any], band: Band, words: str) -> None:
    found, reasons = of(counts, **measures)
    assert found is band
    assert len(reasons) == 1
    assert words in reasons[0]


def test_the_worst_reason_is_named_first_and_a_secret_makes_no_band() -> None:
    counts = msgspec.structs.replace(COUNTS, duplicate=20, long=600)
    found = judge(counts, msgspec.structs.replace(NOTHING, secrets={"access token": 2}, secret_lines=(4, 9)), GATE)
    assert found.band is Band.POOR
    assert [("long" in reason, "duplicates" in reason) for reason in found.reasons] == [(True, False), (False, True)]
    assert found.warnings == ("2 rows with what looks like an access token, lines 4, 9",)


def test_what_is_counted() -> None:
    measuring = Measuring(100)
    for tokens in range(1, 21):
        measuring.encoded(tokens)
    measuring.encoded(5000)
    measuring.overlapping()
    measuring.nearly_held_out()
    for line in range(1, 30):
        measuring.text(line, ("mojibake",), ())
    measuring.text(40, (), ("private key",))
    measuring.answer(7, is_right=False)
    measuring.answer(8, is_right=True)
    assert measuring.measures() == Measures(
        overlap=1, damaged=29, damage={"mojibake": 29}, checkable=2, wrong=1, secrets={"private key": 1}, p95_tokens=20,
        damaged_lines=tuple(range(1, 21)), wrong_lines=(7,), secret_lines=(40,), near_held_out=1)


def test_limits_must_rise() -> None:
    assert list(GATE.faults()) == []
    assert {name for name, _, _ in GateSettings(wrong=(0.5, 0.1, 0.2)).faults()} == {"wrong"}
    assert set(MEASURES) == set(GateSettings.__struct_fields__) - {"on_poor"}
    assert not GateSettings.none().measures
