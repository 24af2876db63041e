"""Packages against their ranges, and the interpreter of the services."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trainq.config import Home, Settings, project_root
from trainq.doctor import installation
from trainq.doctor.findings import Subject, Verdict


def checkout(folder: Path, dependencies: str, python: str = ">=3.11") -> Subject:
    (folder / "pyproject.toml").write_text(
        f'[project]\nrequires-python = "{python}"\ndependencies = [{dependencies}]\n')
    return Subject({}, folder, Home(folder / "home"), Settings())


def test_this_checkout_has_what_it_needs() -> None:
    subject = Subject({}, project_root(), Home(Path("/nowhere")), Settings())
    assert [each.verdict for each in installation.packages(subject)] == [Verdict.OK]


def test_what_is_missing_or_out_of_its_range(tmp_path: Path) -> None:
    subject = checkout(tmp_path, '"msgspec>=999", "orjson>=1", "no-such-package-at-all", "not a requirement !"')
    found = list(installation.packages(subject))
    assert [(each.verdict, each.mend) for each in found] == [(Verdict.FAIL, "run scripts/install")] * 2
    assert ">=999 is needed" in found[0].found
    assert "no-such-package-at-all is not installed" in found[1].found


@pytest.mark.parametrize("content", ["", "[project", "project = 3", "[project]\ndependencies = 3"])
def test_a_checkout_that_names_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    subject = Subject({}, tmp_path, Home(tmp_path), Settings())
    assert [each.verdict for each in installation.packages(subject)] == [Verdict.WARN]


def test_no_interpreter_for_the_services_and_another_checkouts_library(tmp_path: Path) -> None:
    found = list(installation.python(checkout(tmp_path, "", ">=99")))
    assert [each.verdict for each in found] == [Verdict.FAIL] * 3
    assert ">=99 is needed" in found[0].found
    assert ".venv/bin/python" in found[1].found
    assert "two checkouts are mixed" in found[2].mend


def test_another_interpreter_than_that_of_the_services(tmp_path: Path) -> None:
    subject = checkout(tmp_path, "")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    found = list(installation.python(subject))
    assert (found[0].verdict, "-m trainq.cli doctor" in found[0].mend) == (Verdict.WARN, True)
