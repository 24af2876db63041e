"""The repository says what is true: docs name every module, supervisord.conf keeps its promises, scripts run."""

import ast
import configparser
import re
import tomllib
from collections import Counter
from collections.abc import Iterator

import pytest

from trainq import config, picture
from trainq.cli import registry

ROOT = config.project_root()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def supervisor() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "supervisord.conf")
    return parser


def test_the_tree_in_the_docs_names_every_module_and_no_other() -> None:
    tree = ARCHITECTURE.split("## The folders")[1].split("## Who may import whom")[0]
    library, services = tree.split("    shared/trainq/")[1].split("    services/")
    # The left column, up to the two spaces before the words: names, with commas between them.
    named = {name.strip(" /") for left in re.findall(r"^        (\S.*?)(?:  |$)", library, re.MULTILINE)
             for name in left.split(",") if name.strip()}
    there = {path.stem for path in (ROOT / "shared" / "trainq").iterdir()
             if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__"}
    assert named == there
    for service in (ROOT / "services").iterdir():
        for path in service.glob("*.py"):
            described = services.split(f"        {service.name}/")[1].split("\n        ")[0] + services
            assert path.stem in ("__init__", "__main__") or re.search(rf"\b{path.stem}\b", described), path


def test_the_layers_in_the_docs_are_those_that_are_checked() -> None:
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert "\n".join(f"    {layer}" for layer in layers) in ARCHITECTURE


def test_supervisord_runs_every_service_and_listens_on_no_network() -> None:
    conf = supervisor()
    programs = {section.removeprefix("program:") for section in conf.sections() if section.startswith("program:")}
    assert programs == set(picture.SERVICES)
    assert programs == {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert not conf.has_section("inet_http_server")
    assert "%(ENV_" not in re.sub(r"^;.*$", "", (ROOT / "supervisord.conf").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", picture.SERVICES)
def test_each_program_is_stopped_whole_and_never_given_up(name: str) -> None:
    program = supervisor()[f"program:{name}"]
    assert program["stopasgroup"] == program["killasgroup"] == "true"
    assert int(program["startsecs"]) == 1
    assert int(program["startretries"]) >= 1_000_000
    assert program["stdout_logfile_maxbytes"]
    assert int(program["stopwaitsecs"]) >= (180 if name == "trainer" else 10)


def test_the_guide_names_every_command_and_every_setting() -> None:
    for command in registry.ENTRIES:
        assert command in GUIDE, command
    for section in config.Settings.__struct_fields__:
        for key in getattr(config.Settings(), section).__struct_fields__:
            assert key in GUIDE, f"docs/guide.md does not name [{section}] {key}"


def test_the_license_and_the_example_files_are_there() -> None:
    assert "MIT" in (ROOT / "LICENSE").read_text()
    for name in ("chat.jsonl", "prompt-completion.jsonl", "text.jsonl"):
        assert len((ROOT / "examples" / name).read_text().splitlines()) >= 200


# What makes, changes or removes files: by the module that has it, and what a path can do. The names that other things
# have too (a list's remove, a string's replace) count where they are the module's, or can be a path's only.
_OF_MODULES = {
    "os": {"replace", "rename", "renames", "fsync", "fdatasync", "truncate", "ftruncate", "unlink", "remove", "rmdir",
           "removedirs", "mkdir", "makedirs", "symlink", "link", "mkfifo", "mknod"},
    "shutil": {"move", "rmtree", "copy", "copy2", "copyfile", "copytree", "unpack_archive", "make_archive"},
    "tempfile": {"mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory"},
    "torch": {"save"}, "np": {"save", "savez"},
}
_OF_PATHS = {"rename", "write_text", "write_bytes", "unlink", "touch", "symlink_to", "hardlink_to", "mkdir", "rmdir",
             "tofile", "save_file", "rmtree"}
# Who does so without trainq.files: what, how often, and why that is right. A new one must be argued.
_BESIDE_FILES = {
    # Inside the block of publish_directory, which syncs all that is in it before it gets its name.
    ("shared/trainq/preparing.py", "open xb"): 2, ("shared/trainq/preparing.py", "unlink"): 2,
    ("shared/trainq/preparing.py", "write_bytes"): 1,
    ("shared/trainq/shards.py", "open xb"): 1, ("shared/trainq/shards.py", "write_bytes"): 1,
    ("shared/trainq/ml/model.py", "write_bytes"): 1, ("shared/trainq/ml/adapter.py", "write_bytes"): 2,
    ("shared/trainq/ml/writing.py", "write_bytes"): 2,
    # A lock, and in it the pid of who holds it, for people: what it says after a power cut is of no use.
    ("shared/trainq/locks.py", "os.open to write"): 1, ("shared/trainq/locks.py", "os.ftruncate"): 1,
    # The journal's fsyncs are SQLite's; this makes the name of its new file durable.
    ("shared/trainq/journal/store.py", "os.fsync"): 1,
    # Folders of the inbox in which nothing is left: one that is back after a power cut is removed again.
    ("services/watcher/inbox.py", "rmdir"): 1,
    # Standard input and an upload, read once and without a name.
    ("shared/trainq/cli/validating.py", "tempfile.TemporaryFile"): 1,
    ("services/web/judging.py", "tempfile.TemporaryFile"): 1,
    # Output and stacks of a process: nobody reads them to go on.
    ("services/trainer/surroundings.py", "os.open to write"): 2,
    ("shared/trainq/service/child.py", "os.open to write"): 1,
    # The stacks of a crash: without them the next life takes the end for a kill.
    ("shared/trainq/service/ends.py", "os.open to write"): 1,
    # Standard output goes to /dev/null when its reader has gone.
    ("shared/trainq/cli/__init__.py", "os.open to write"): 1,
    # Whoever removes a plan is killed the next instant; the breaker removes those that nobody reached.
    ("shared/trainq/crashpoints.py", "unlink"): 1, ("shared/trainq/chaos/faults.py", "unlink"): 1,
    # Log lines of old attempts.
    ("shared/trainq/service/attempts.py", "unlink"): 1,
    # Whoever removes a fault of a step that comes once has met it.
    ("shared/trainq/ml/stepfaults.py", "unlink"): 1,
    # An installation that is thrown away; what it must keep, it keeps by trainq.files.
    ("shared/trainq/cli/chaosing.py", "tempfile.mkdtemp"): 1, ("shared/trainq/cli/chaosing.py", "mkdir"): 1,
    ("shared/trainq/chaos/campaign.py", "mkdir"): 1, ("shared/trainq/chaos/proof.py", "write_text"): 1,
    ("shared/trainq/chaos/installation.py", "mkdir"): 2, ("shared/trainq/chaos/installation.py", "symlink_to"): 1,
    ("shared/trainq/chaos/installation.py", "write_text"): 1, ("shared/trainq/chaos/installation.py", "open ab"): 1,
    # Receipts: the one who reads them is started by the one who wrote them, and no power is cut between.
    ("shared/trainq/chaos/load.py", "open ab"): 1,
    # Another place, through fsspec; what is a disk of this machine is written by trainq.files.
    ("shared/trainq/destinations.py", "open wb"): 1,
    # Journals are read in a copy, because SQLite changes what it opens. The checker imports nothing of trainq.
    ("shared/trainq/ml/rederiving.py", "tempfile.TemporaryDirectory"): 1,
    # A shard that is made again for one question, and thrown away with it.
    ("shared/trainq/ml/rowtracing.py", "tempfile.TemporaryDirectory"): 1,
    ("shared/trainq_checker/reading.py", "tempfile.TemporaryDirectory"): 1,
    ("shared/trainq_checker/reading.py", "shutil.copyfile"): 1,
}


def written(source: str) -> Iterator[str]:
    """Everything in a module's source that makes, changes or removes files otherwise than by trainq.files."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if node.attr in _OF_MODULES.get(owner, ()):
                yield f"{owner}.{node.attr}"
            elif node.attr in _OF_PATHS and owner != "files":
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in _OF_MODULES:
            yield from (f"{node.module}.{name.name}" for name in node.names
                        if name.name in {*_OF_MODULES[node.module], "*"})
        elif isinstance(node, ast.Call):
            yield from _opened(node)


def _opened(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    if name == "os.open":
        if re.search("O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", ast.unparse(call)):
            yield "os.open to write"
    elif name.rpartition(".")[2] == "open":
        # As a file's mode is written; a path of one such letter would be taken for one, and there is none.
        yield from (f"open {mode.value}" for mode in given if isinstance(mode, ast.Constant)
                    and re.fullmatch("[rwxabt+]+", str(mode.value)) and set(str(mode.value)) & set("wxa+"))
    elif name.endswith(".replace") and len(call.args) == 1 and not call.keywords:
        yield "replace"  # a string's has two arguments


def test_nothing_but_trainq_files_writes_what_lasts() -> None:
    """Anything else would go around its crash points and its rule."""
    found = Counter((path.relative_to(ROOT).as_posix(), what) for folder in ("shared", "services")
                    for path in (ROOT / folder).rglob("*.py") for what in written(path.read_text()))
    assert {(name, what): times for (name, what), times in found.items()
            if name != "shared/trainq/files.py"} == _BESIDE_FILES


@pytest.mark.parametrize(("source", "what"), [
    ("path.write_text('x')", "write_text"), ("path.write_bytes(b'x')", "write_bytes"), ("path.unlink()", "unlink"),
    ("path.symlink_to('x')", "symlink_to"), ("open(str(path), 'w')", "open w"), ("path.open(mode='a+b')", "open a+b"),
    ("path.open('r+b')", "open r+b"), ("io.open(path,\n 'xb')", "open xb"), ("path.replace(other)", "replace"),
    ("os.open(path, os.O_RDWR)", "os.open to write"), ("from os import rename", "os.rename"),
    ("os.remove(path)", "os.remove"),
    ("onerror = shutil.rmtree", "shutil.rmtree"), ("array.tofile(path)", "tofile"),
    ("files.remove_tree(path); files.move(a, b); open(p); p.open('rb'); names.remove('a'); 'a'.replace('b', '')", None),
])
def test_every_way_to_write_is_seen(source: str, what: str | None) -> None:
    assert list(written(source)) == ([what] if what else [])
