"""The repository says what is true: docs name every module, supervisord.conf keeps its promises, scripts run."""

import configparser
import re
import tomllib

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


# Who makes, changes or removes files without trainq.files: how often, and why that is right. A new one must be argued.
_BESIDE_FILES = {
    # Inside the block of publish_directory, which syncs all that is in it before it gets its name.
    "shared/trainq/preparing.py": 2, "shared/trainq/shards.py": 2, "shared/trainq/ml/model.py": 1,
    "shared/trainq/ml/checkpointing.py": 4,
    # Output and stacks of a process: nobody reads them to go on.
    "services/trainer/surroundings.py": 2,
    # Whoever removes a plan is killed the next instant.
    "shared/trainq/crashpoints.py": 1,
    # An installation that is thrown away; what it must keep, it keeps by trainq.files.
    "shared/trainq/chaos/installation.py": 5, "shared/trainq/chaos/proof.py": 1, "shared/trainq/chaos/faults.py": 1,
    "shared/trainq/chaos/campaign.py": 1, "shared/trainq/chaos/load.py": 1, "shared/trainq/cli/chaosing.py": 1,
    # The checker works on a copy of the journal that is thrown away; it imports nothing of trainq.
    "shared/trainq_checker/reading.py": 1,
    # The journal's fsyncs are SQLite's; it only makes the name of the new file durable.
    "shared/trainq/journal/store.py": 1,
}


def test_nothing_but_trainq_files_writes_what_lasts() -> None:
    """Anything else would go around its crash points and its rule."""
    around = re.compile(
        r"os\.(replace|rename|fsync|truncate|unlink|remove|mkdir|makedirs|symlink|link)\(|O_CREAT"
        r"|shutil\.(move|rmtree|copy|copy2|copyfile|copytree)\(|\.rename\(|\.replace\(Path|\.write_(text|bytes)\(|\.unlink\(|\.touch\("
        r"|\.(symlink|hardlink)_to\(|\.mkdir\(|open\([^)]*[\"'][wxa]b?\+?[\"']")
    found = {}
    for folder in ("shared", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name != "shared/trainq/files.py" and (times := len(around.findall(path.read_text()))):
                found[name] = times
    assert found == _BESIDE_FILES
