"""The command line starts fast: no command's module brings in anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainq.cli import registry

FORBIDDEN = ("torch", "transformers", "pydantic", "numpy", "tokenizers", "accelerate", "rich")
# What `trainq submit` has no need of, in the order of what each would cost; see docs/performance.md. (msgspec itself
# imports inspect and typing_extensions.)
NOT_FOR_SUBMIT = ("hashlib", "secrets", "shutil", "tempfile", "subprocess", "logging", "importlib.metadata",
                  "asyncio", "dataclasses", "difflib", "traceback", "signal", "trainq.journal", "trainq.cli.rendering",
                  "trainq.cli.waiting")
_PROBE = """
import sys
from trainq.cli import parsing
for words in {commands!r}:
    parsing.parse(words)
print(*sys.modules)
"""
_WORDS = {"snapshot": ["snapshot", "list"], "retention": ["retention", "plan"],
          "restore": ["restore", "g000001-s00000001"],
          "schedule": ["schedule", "list"], "backup": ["backup", "list", "/nowhere"], "validate": ["validate", "x"],
          "submit": ["submit", "x", "--map", "prompt=a,completion=b"], "show": ["show", "1"], "cancel": ["cancel", "1"],
          "release": ["release", "1"], "preview": ["preview", "x"],
          "retry": ["retry", "1"], "yield": ["yield", "1h"], "lend": ["lend", "--", "true"], "export": ["export", "1"],
          "metrics": ["metrics", "1"], "lineage": ["lineage", "--row", "x:1"],
          "services": ["services", "list"], "config": ["config", "show"], "sample": ["sample", "x"],
          "completion": ["completion", "bash"], "generate": ["generate", "syllo"],
          "suites": ["suites", "list"], "compare": ["compare", "champion", "head"]}


def modules_of(*commands: list[str]) -> set[str]:
    probe = subprocess.run([sys.executable, "-c", _PROBE.format(commands=commands)], capture_output=True, text=True,
                           check=True)
    return set(probe.stdout.split())


def heavy(*commands: list[str]) -> list[str]:
    return sorted(module for module in modules_of(*commands)
                  if module in FORBIDDEN or module.startswith("trainq.ml"))


def test_no_command_imports_anything_heavy() -> None:
    commands = [_WORDS.get(name, [name]) for name in registry.ENTRIES]
    if heavy(*commands):
        pytest.fail(str({words[0]: found for words in commands if (found := heavy(words))}))


def test_submit_imports_only_what_it_needs() -> None:
    assert sorted(modules_of(["submit", "x"]) & set(NOT_FOR_SUBMIT)) == []


def test_only_the_chosen_command_is_imported() -> None:
    others = {f"trainq.cli.{entry.module}" for entry in registry.ENTRIES.values()} - {"trainq.cli.versioning"}
    modules = modules_of(["version"])
    assert not modules & others
    assert not modules & {"zmq", "msgspec", "trainq.messages", "trainq.config"}
