"""``trainq preview``: rows as the model will see them, and what of them is trained."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from trainq import builtin
from trainq.cli import main
from trainq.cli.console import Console
from trainq.cli.previewing import _lines, show
from trainq.config import DataSettings, Settings
from trainq.samples import read_rows
from trainq.textcodec import TextCodec

ROWS = [{"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "It is\nfour"}]},
        {"text": "just \x1b[31mtext"}, {"prompt": "x"}, {"text": "the fourth row"}]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path / "home"))
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_what_is_trained_stands_between_marks(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", str(file)]) == 0
    out = capsys.readouterr().out
    assert "<|user|>What?<|end|><|assistant|>[[It is]]\n[[four<|end|>]]\n" in out
    assert "line 3: the column 'completion' is missing or null" in out
    assert "\x1b" not in out
    assert "fourth" not in out


def test_as_json_it_has_pieces(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", str(file), "--rows", "4", "--json"]) == 0
    first, second, third, fourth = json.loads(capsys.readouterr().out)["rows"]
    assert [piece["trained"] for piece in first["pieces"]] == [False, True]
    assert first["pieces"][1]["text"] == "It is\nfour<|end|>"
    assert (first["fate"], second["fate"], third["fate"], fourth["line"]) == ("trained", "trained", "rejected", 4)


def test_what_becomes_of_a_row_is_said(file: Path) -> None:
    codec = TextCodec.load(builtin.folder())
    row = next(read_rows(file, {}, lambda _: None))
    held_out = Settings(data=DataSettings(held_out_fraction=1.0))
    assert show(row, codec, held_out, 1024).fate == "held_out"
    assert show(row, codec, Settings(), 8).fate == "dropped_long"
    cut = show(row, codec, Settings(data=DataSettings(long_rows="truncate")), 18)
    assert (cut.fate, cut.truncated, cut.tokens) == ("trained", True, 18)


def test_on_a_terminal_it_is_in_colour(file: Path) -> None:
    console = Console(io.StringIO(), io.StringIO(), json=False, environment={})
    console.colour = True
    row = next(read_rows(file, {}, lambda _: None))
    lines = list(_lines(show(row, TextCodec.load(builtin.folder()), Settings(), 1024), console, is_first=True))
    assert lines[1:] == ["<|bos|><|user|>What?<|end|><|assistant|>\x1b[32mIt is\x1b[0m", "\x1b[32mfour<|end|>\x1b[0m"]


def test_what_is_no_file_is_refused(file: Path) -> None:
    assert main(["preview", str(file.parent)]) == 65
