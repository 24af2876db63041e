"""The edge: what every command has in common."""

from __future__ import annotations

import gc
import io
import json
import re
import sys

import pytest

from trainq import __version__, errors
from trainq.cli import main, parsing, registry


@pytest.mark.parametrize("words", [["--json", "version"], ["version", "--json"]])
def test_json_is_accepted_before_and_after_the_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["v"], document["version"]) == (1, __version__)


def test_version_for_people_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr() == (f"trainq {__version__}\n", "")


@pytest.mark.parametrize("words", [
    [], ["nosuch"], ["show"], ["show", "a", "b"], ["list", "--limit", "0"], ["list", "--limit", "x"],
    ["list", "--state", "gone"], ["submit"], ["submit", "f", "--prio", "high"], ["submit", "f", "--priority", "top"],
    ["submit", "f", "--epochs", "0"], ["submit", "f", "--epochs", "1001"], ["submit", "f", "--map", "prompt"],
    ["submit", "f", "--after", "UP"], ["events", "--after", "-1"], ["config"], ["config", "look"], ["show", "a/b"],
    ["--js", "version"], ["version", "--js"]])
def test_a_command_line_that_is_not_understood_is_exit_2_and_one_line(
        words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"trainq: .+ \(trainq.* --help\)\n", err)


def test_a_mistake_with_json_is_also_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--json"]) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == "usage"
    assert "JOB" in error["message"]
    assert error["mend"] == "trainq show --help"
    assert err.startswith("trainq: ")


def test_a_word_behind_two_dashes_is_no_option() -> None:
    assert not parsing.wants_json(["sample", "--", "--json"])
    assert parsing.parse(["sample", "--", "--json"]).prompts == ["--json"]


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: trainq {name}")
    assert "--json" in out


def test_the_help_lists_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for name, entry in registry.ENTRIES.items():
        assert re.search(rf"^ +{name} +{re.escape(entry.summary)}$", out, re.MULTILINE)
    possible = {cls.exit_code for cls in vars(errors).values()
                if isinstance(cls, type) and issubclass(cls, errors.TrainqError)}
    documented = {int(code) for code in re.findall(r"^ +(\d+)  \w", out, re.MULTILINE)}
    assert possible | {0, 1, 2, 130, 141} == documented


def test_a_process_of_one_command_sets_aside_what_it_imported_and_collects_from_then_on(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trainq", "version"])
    try:
        assert main() == 0
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


class _ClosedPipe(io.StringIO):
    """What stdout is when its reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        return self.spare

    spare = -1


def test_a_reader_that_has_gone_is_no_bug(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path_factory.mktemp("pipe") / "spare").open("wb") as spare:
        gone = _ClosedPipe()
        gone.spare = spare.fileno()
        monkeypatch.setattr("sys.stdout", gone)
        assert main(["version"]) == 141
    assert capsys.readouterr().err == ""


def test_a_bug_is_exit_70_with_its_traceback(monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_name: str) -> registry.Command:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(registry, "load", broken)
    assert main(["version", "--json"]) == 70
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "internal"
    assert "Traceback" in err
    assert "nobody thought of this" in err
