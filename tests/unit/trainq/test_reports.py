"""Counts close, reasons and files stay bounded, and rejected rows can be read by people and programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest

from trainq import reports
from trainq.errors import TrainqError
from trainq.jsonl import KEPT_BYTES, Line
from trainq.reports import DataReport, RejectedRows, Tally, publish_reports, report_bytes
from trainq.samples import BadRow


def bad_row(line: int, reason: str = "it is empty") -> BadRow:
    return BadRow(line=line, column=3, field="text", reason=reason, mend="fill it")


def test_a_tally_counts_and_closes() -> None:
    tally = Tally()
    tally.read = 6
    tally.train(10, 4, truncated=False)
    tally.train(12, 5, truncated=True)
    tally.duplicate = tally.held_out = tally.dropped_long = 1
    tally.reject(bad_row(6), listed=True)
    report = tally.report()
    assert report.closes()
    assert (report.read, report.trained, report.truncated, report.tokens, report.trained_tokens) == (6, 2, 1, 22, 9)
    assert (report.longest_row_tokens, report.reasons, report.bad_rows) == (12, {"it is empty": 1}, (bad_row(6),))
    assert report_bytes(report) == report_bytes(report)
    assert msgspec.json.decode(report_bytes(report), type=DataReport) == report


def test_a_row_that_is_lost_is_an_error() -> None:
    tally = Tally()
    tally.read = 2
    tally.train(1, 1, truncated=False)
    with pytest.raises(TrainqError, match="do not add up"):
        tally.report()


def test_only_the_first_bad_rows_and_so_many_reasons_are_kept() -> None:
    tally = Tally()
    for line in range(1, 1001):
        tally.read += 1
        tally.reject(bad_row(line, f"reason {line}"), listed=False)
    report = tally.report()
    assert [row.line for row in report.bad_rows] == list(range(1, 21))
    assert len(report.reasons) == 101
    assert report.reasons["other reasons"] == 900
    assert (report.rejected, report.rejected_listed) == (1000, 0)


def test_rejected_rows_keep_the_line_as_it_stood() -> None:
    stream = io.BytesIO()
    rejected = RejectedRows(stream)
    long = b"x" * (KEPT_BYTES + 9)
    for number, content in enumerate([b'{"text": ""}', b'caf\xe9 "\\', long], 1):
        assert rejected.append(bad_row(number), Line(number, content, len(content)))
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert first == {"line": 1, "column": 3, "field": "text", "reason": "it is empty", "mend": "fill it",
                     "raw": '{"text": ""}'}
    assert second["raw"] == 'caf\\xe9 "\\'
    assert third["raw"] == "x" * KEPT_BYTES
    assert third["raw_bytes"] == KEPT_BYTES + 9


def test_the_file_of_rejected_rows_stops_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_REJECTED_FILE_BYTES", 500)
    stream = io.BytesIO()
    rejected = RejectedRows(stream)
    listed = [rejected.append(bad_row(number), Line(number, b"x" * 100, 100)) for number in range(1, 20)]
    assert listed == sorted(listed, reverse=True)
    assert 0 < sum(listed) == len(stream.getvalue().splitlines()) < 19


def test_reports_are_published_and_replaced(tmp_path: Path) -> None:
    tally = Tally()
    tally.read = 1
    tally.reject(bad_row(1), listed=True)
    rows = tmp_path / "rows"
    rows.write_bytes(b"{}\n")
    folder = tmp_path / "rejected"
    publish_reports(folder, "j1-x.jsonl", tally.report(), "too many", rows)
    publish_reports(folder, "j1-x.jsonl", tally.report(), "", rows)
    assert sorted(entry.name for entry in folder.iterdir()) == ["j1-x.jsonl.rejected.jsonl", "j1-x.jsonl.report.json"]
    assert (folder / "j1-x.jsonl.rejected.jsonl").read_bytes() == b"{}\n"
    document = json.loads((folder / "j1-x.jsonl.report.json").read_text())
    assert document["outcome"] == "prepared"
    assert document["rejected"] == 1
    assert document["bad_rows"][0]["line"] == 1
