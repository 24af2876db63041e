"""Generators are found by name: those that come along, and plug-ins of installed distributions."""

from pathlib import Path

import pytest

from trainq.errors import InputError, NotFoundError
from trainq.generating import producing, registry
from trainq.generating.base import GenerateRequest

MODULE = """
from trainq.generating.base import chat, provenance

class Counting:
    name, version, levels = "counting", "0.1", 2

    def rows(self, request):
        for index in range(request.count):
            yield {"messages": chat(f"after {index}?", str(index + 1)),
                   "metadata": provenance(self, request, index, "counting")}

instance = Counting()
misnamed = Counting()
misnamed.name = "other"
versionless = Counting()
versionless.name, versionless.version = "versionless", 1
flat = Counting()
flat.name, flat.levels = "flat", 0
rowless = Counting()
rowless.name, rowless.rows = "rowless", None
"""


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, points: str, distribution: str = "tiny") -> None:
    """A distribution as pip leaves it: its module, and beside it what it says of itself."""
    facts = folder / f"{distribution}-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[trainq.generators]\n{points}\n")
    (folder / f"{distribution}_generators.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_those_that_come_along_are_found(name: str) -> None:
    found = registry.find(name)
    assert found.name == name
    assert found.levels == 10
    assert name in registry.names()


@pytest.mark.parametrize("thing", ["Counting", "instance"])
def test_a_plug_in_is_found_and_makes_rows(thing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, f"counting = tiny_generators:{thing}")
    found = registry.find("counting")
    assert "counting" in registry.names()
    assert len(list(producing.rows(found, GenerateRequest(count=5, level=2, seed=1)))) == 5


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(NotFoundError, match=r"no generator 'sillo'; there are: arithmetic, .*syllo"):
        registry.find("sillo")


@pytest.mark.parametrize(("points", "why"), [
    ("broken = tiny_nowhere:Counting", r"broken of tiny 1\.0 cannot be loaded: ModuleNotFoundError: .*tiny_nowhere"),
    ("broken = tiny_generators:Nothing", "cannot be loaded: AttributeError"),
    ("misnamed = tiny_generators:misnamed", r"of tiny 1\.0 is no generator: its name is 'other', not 'misnamed'"),
    ("versionless = tiny_generators:versionless", "its version is no string"),
    ("flat = tiny_generators:flat", "levels, the highest of them, is 0"),
    ("rowless = tiny_generators:rowless", r"it has no rows\(request\)"),
    ("syllo = tiny_generators:Counting", r"syllo comes from more than one place: trainq, tiny 1\.0 \(uninstall one"),
])
def test_a_plug_in_that_is_none_is_named_with_its_distribution(points: str, why: str, monkeypatch: pytest.MonkeyPatch,
                                                              tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, points)
    with pytest.raises(InputError, match=why):
        registry.find(points.partition(" ")[0])


def test_two_plug_ins_of_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "a", "counting = tiny_generators:Counting")
    install(monkeypatch, tmp_path / "b", "counting = small_generators:Counting", "small")
    with pytest.raises(InputError, match=r"small 1\.0, tiny 1\.0|tiny 1\.0, small 1\.0"):
        registry.find("counting")
