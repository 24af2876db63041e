"""The installation: Python, the packages against their ranges, one checkout; and the configuration."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trainq
from trainq.doctor.findings import Finding, Subject, fail, ok, warn

_INSTALL = "run scripts/install"


def python(subject: Subject) -> Iterator[Finding]:
    """The interpreter that supervisord starts the services with, and this one."""
    wanted = _project(subject.root).get("requires-python", "")
    version = platform.python_version()
    if wanted and not _allows(wanted, version):
        yield fail("python", f"this is Python {version}, and {wanted} is needed", _INSTALL)
    interpreter = subject.root / ".venv" / "bin" / "python"
    if not os.access(interpreter, os.X_OK):
        yield fail("python", f"there is no {interpreter}, with which supervisord starts the services", _INSTALL)
    elif Path(sys.prefix).resolve() != (subject.root / ".venv").resolve():
        yield warn("python", f"this is {sys.executable}, and the services run with {interpreter}",
                   f"what is said about packages here may be otherwise there: {interpreter} -m trainq.cli doctor")
    else:
        yield ok("python", f"{version}, {platform.platform()}")
    library = Path(trainq.__file__).resolve().parents[2]
    if library != subject.root.resolve():
        yield fail("python", f"trainq is imported from {library}, and the services run in {subject.root}",
                   "two checkouts are mixed: set PYTHONPATH to the shared/ of one")


def packages(subject: Subject) -> Iterator[Finding]:
    """Each package that trainq depends on is there, in the range that it is tested for."""
    from packaging.requirements import InvalidRequirement, Requirement

    wrong, lines = 0, declared(subject.root)
    for line in lines:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        version = version_of(wanted.name)
        if not version:
            yield fail("packages", f"{wanted.name} is not installed", _INSTALL)
        elif not wanted.specifier.contains(version, prereleases=True):
            yield fail("packages", f"{wanted.name} is {version}, and {wanted.specifier} is needed", _INSTALL)
        else:
            continue
        wrong += 1
    if not lines:
        yield warn("packages", f"{subject.root / 'pyproject.toml'} names none, so that none could be compared",
                   "bring the checkout back")
    elif not wrong:
        yield ok("packages", f"{len(lines)} packages in their ranges; trainq {trainq.__version__}, torch "
                 f"{version_of('torch')}")


def configuration(subject: Subject) -> Iterator[Finding]:
    """Every mistake in ``trainq.toml`` and the environment."""
    for problem in subject.problems:
        yield fail("configuration", f"{problem.key}: {problem.problem}", problem.mend)
    if not subject.problems:
        yield ok("configuration", f"{subject.file or 'no file: the defaults apply'}; home {subject.home.root}")


def version_of(package: str) -> str:
    """Its installed version; empty if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def declared(root: Path) -> list[str]:
    """The requirements that ``pyproject.toml`` names; none if it cannot be read."""
    lines = _project(root).get("dependencies", [])
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _allows(specifier: str, version: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True


def _project(root: Path) -> dict[str, Any]:
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return {}
    return project if isinstance(project, dict) else {}
