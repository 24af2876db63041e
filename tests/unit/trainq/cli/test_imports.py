"""The command line starts fast: no command's module brings in anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainq.cli import registry

FORBIDDEN = ("torch", "transformers", "pydantic", "numpy", "tokenizers", "accelerate")
# What `trainq submit` has no need of, in the order of what each would cost; see docs/performance.md. (msgspec itself
# imports inspect and typing_extensions.)
NOT_FOR_SUBMIT = ("hashlib", "secrets", "shutil", "tempfile", "subprocess", "logging", "importlib.metadata",
                  "asyncio", "dataclasses", "difflib", "traceback", "signal", "trainq.journal", "trainq.cli.rendering",
                  "trainq.cli.waiting")
_PROBE = """
import sys
from trainq.cli import parsing
parsing.parse({words!r})
print(*sys.modules)
"""
_WORDS = {"snapshot": ["snapshot", "list"], "retention": ["retention", "plan"],
          "restore": ["restore", "g000001-s00000001"],
          "schedule": ["schedule", "list"], "backup": ["backup", "list", "/nowhere"], "validate": ["validate", "x"],
          "submit": ["submit", "x", "--map", "prompt=a,completion=b"], "show": ["show", "1"], "cancel": ["cancel", "1"],
          "retry": ["retry", "1"], "yield": ["yield", "1h"], "lend": ["lend", "--", "true"], "export": ["export", "1"],
          "metrics": ["metrics", "1"], "lineage": ["lineage", "--row", "x:1"],
          "config": ["config", "show"], "sample": ["sample", "x"]}


def modules_of(name: str, *arguments: str) -> set[str]:
    words = [name, *arguments] if arguments else _WORDS.get(name, [name])
    probe = subprocess.run([sys.executable, "-c", _PROBE.format(words=words)], capture_output=True, text=True,
                           check=True)
    return set(probe.stdout.split())


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_no_command_imports_anything_heavy(name: str) -> None:
    modules = modules_of(name)
    assert not modules & set(FORBIDDEN)
    assert not any(module.startswith("trainq.ml") for module in modules)
    assert "rich" not in modules


def test_submit_imports_only_what_it_needs() -> None:
    assert sorted(modules_of("submit", "x") & set(NOT_FOR_SUBMIT)) == []


def test_only_the_chosen_command_is_imported() -> None:
    others = {f"trainq.cli.{entry.module}" for entry in registry.ENTRIES.values()} - {"trainq.cli.versioning"}
    modules = modules_of("version")
    assert not modules & others
    assert not modules & {"zmq", "msgspec", "trainq.messages", "trainq.config"}
