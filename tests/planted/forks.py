"""pytest over a copy of the tree, in a fork of a process that has imported what takes seconds and is not of the tree.

It imports nothing of the project: whatever a fork finds imported already is not what is tested. Each fork makes sure of
it, before and after.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# With them come torch._inductor, accelerate and all else that the project imports of theirs.
PRELOADED = ("torch", "transformers.models.llama.modeling_llama", "peft", "hypothesis.core", "pytest")
# None of pytest's own exit codes.
NOT_OF_THE_TREE = 70
_OURS = {"trainq", "services", "trainq_checker", "tests"}


def run_tests(tree: Path, *nodes: str) -> tuple[int | None, str]:
    """pytest's exit code (or :data:`NOT_OF_THE_TREE`, or minus a signal), and what it said."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        output = Path(folder) / "output"
        output.touch()
        process = context.Process(target=_run, args=(tree, nodes, output))
        process.start()
        try:
            process.join()
        finally:
            process.kill()  # of no effect on one that has ended
            process.join()
        return process.exitcode, output.read_text(errors="replace")


def _run(tree: Path, nodes: tuple[str, ...], output: Path) -> None:
    """What the fork does with its life."""
    gc.freeze()  # nothing that was preloaded becomes garbage
    with output.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    _move_to(tree)
    importlib.import_module("trainq")
    if _strangers(tree):
        sys.exit(NOT_OF_THE_TREE)
    # pytest would rewrite the assertions of its plugin, and warns that it comes too late.
    code = importlib.import_module("pytest").main(
        ["-x", "-q", f"--basetemp={output.parent / 't'}", "-W", "ignore:Module already imported:pytest.PytestWarning",
         *nodes])
    sys.exit(NOT_OF_THE_TREE if _strangers(tree) else int(code))


def _move_to(tree: Path) -> None:
    """Let this process, and what it starts, import from the tree and not from the checkout; and write no bytecode.

    A bug of the same length, planted within the second, would else not be seen in a source that was compiled before.
    """
    first = [str(tree / "shared"), str(tree)]
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": os.pathsep.join(first), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path[:] = [*first, *(path for path in sys.path if Path(path).resolve() not in
                             (ROOT, ROOT / "shared", ROOT / "tests"))]
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]


def _strangers(tree: Path) -> list[str]:
    """The modules of the project that were not imported from the tree."""
    found = []
    for name, module in sys.modules.items():
        if name.partition(".")[0] in _OURS:
            paths = [path] if (path := getattr(module, "__file__", None)) else list(getattr(module, "__path__", ()))
            found += [f"{name} of {path}" for path in paths if not Path(path).is_relative_to(tree)]
    for each in found:
        print(f"not of the tree: {each}")
    return found
