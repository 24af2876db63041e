"""Champions put elsewhere: whole, proven, once, and pointed at in the order in which they became it."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from tests.generations import publish
from trainq import diskfaults, evaluations, files, manifests, publishing, room
from trainq.destinations import Destination
from trainq.errors import DamageError, StorageError, TrainqError, UsageError
from trainq.publishing import Delivered, Move

MODEL = {"config.json": b"{}", "tokenizer.json": b"[1]", "optimizer.safetensors": b"o", "state.json": b"s",
         "README.md": b"card", "ledger.bin": b"l"}


def a_model(folder: Path, number: int, weights: bytes) -> Path:
    return folder / publish(folder, number, {**MODEL, "model.safetensors": weights})


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    return a_model(tmp_path / "checkpoints", 1, os.urandom(5000))


def deliver(source: Path, url: str, seq: int = 7, journal: str = "j", keep: int = 0) -> Delivered:
    move = Move(journal=journal, seq=seq, checkpoint=source.name, at=1.0, how="first", reason="there was none")
    return publishing.deliver(source, move, Destination(url, lambda _: None), published_at=2.0, published_by="test",
                              keep=keep)


def faults_at(url: str) -> list[str]:
    """What of all that the pointer says is not so."""
    place = Destination(url, lambda _: None)
    pointer = publishing.read_pointer(place)
    assert pointer is not None
    return [name for name, record in pointer.files.items()
            if place.digest(place.path(pointer.folder, name)) != record.blake3]


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_a_champion_is_put_there_whole_and_once(champion: Path, tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path / 'there'}"
    weights = evaluations.weights_digest(champion)
    assert deliver(champion, url) == Delivered(weights, 5005, 0, True, champion.name)
    assert deliver(champion, url) == Delivered(weights, 0, 5005, True, champion.name)
    assert faults_at(url) == []
    pointer = publishing.read_pointer(Destination(url, lambda _: None))
    assert pointer is not None
    assert (pointer.checkpoint, pointer.folder, pointer.is_adapter, pointer.moved.reason) == (
        champion.name, weights, False, "there was none")
    assert sorted(pointer.files) == ["config.json", "model.safetensors", "tokenizer.json"]
    if scheme != "memory://":
        assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted([weights, "champion.json"])
        assert sorted(path.name for path in (tmp_path / "there" / weights).iterdir()) == sorted(pointer.files)


def test_an_adapter_has_the_weights_under_it_inside(tmp_path: Path) -> None:
    folder, there = tmp_path / "checkpoints", tmp_path / "there"
    ground = publish(folder, 1, {**MODEL, "model.safetensors": b"under"}, adapter_of="self")
    made = publish(folder, 2, {}, parent=ground)
    files.remove_tree(folder / made)
    own = folder / "g000002-s00000020"
    facts = manifests.read(folder / ground, "checkpoint").facts | {"generation": 2, "step": 20, "parent": ground}
    with files.publish_directory(own) as inside:
        (inside / "adapter").mkdir()
        (inside / "adapter" / "adapter_model.safetensors").write_bytes(b"adapter")
        (inside / "adapter" / "adapter_config.json").write_bytes(b'{"r": 4}')
        (inside / "tokenizer.json").write_bytes(b"[1]")
        manifests.seal(inside, "checkpoint", facts)
    done = deliver(own, str(there))
    pointer = orjson.loads((there / "champion.json").read_bytes())
    assert sorted(pointer["files"]) == ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
                                        "weights/config.json", "weights/model.safetensors", "weights/tokenizer.json"]
    assert pointer["is_adapter"]
    config = orjson.loads((there / done.weights / "adapter_config.json").read_bytes())
    assert config == {"r": 4, "base_model_name_or_path": str(there / done.weights / "weights")}
    assert faults_at(str(there)) == []
    deliver(own, "memory://adapter")
    far = Destination("memory://adapter", lambda _: None)
    assert orjson.loads(far.read(far.path(done.weights, "adapter_config.json")))["base_model_name_or_path"] == "weights"


def test_the_pointer_never_goes_back(champion: Path, tmp_path: Path) -> None:
    url, later = str(tmp_path / "there"), a_model(champion.parent, 2, b"later")
    deliver(later, url, seq=9)
    late = deliver(champion, url, seq=7)
    assert (late.copied_bytes, late.is_pointed_at, late.pointed_at) == (5005, False, later.name)
    assert (tmp_path / "there" / late.weights / "model.safetensors").exists(), "it is delivered all the same"
    again = deliver(champion, url, seq=12)
    assert (again.copied_bytes, again.is_pointed_at) == (0, True), "it became champion again"
    assert (tmp_path / "there" / evaluations.weights_digest(later)).is_dir(), "the old ones stay"


def test_a_place_has_the_champions_of_one_home(champion: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "there")
    deliver(champion, url)
    with pytest.raises(UsageError, match="champions of another home, whose journal is j"):
        deliver(a_model(champion.parent, 2, b"later"), url, seq=99, journal="k")
    assert len(list((tmp_path / "there").iterdir())) == 2
    (tmp_path / "there" / "champion.json").write_bytes(b'{"format": 2}')
    with pytest.raises(UsageError, match="newer trainq"):
        deliver(champion, url)
    (tmp_path / "there" / "champion.json").write_bytes(b'{"form')
    assert deliver(champion, url).is_pointed_at, "half a pointer is none"


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_what_was_damaged_there_is_put_anew_before_it_is_pointed_at(champion: Path, tmp_path: Path,
                                                                    scheme: str) -> None:
    url = f"{scheme}{tmp_path / 'there'}"
    weights = deliver(champion, url).weights
    place = Destination(url, lambda _: None)
    place.put([b"{ }"], place.path(weights, "config.json"), publishing._record(b"{ }"), "x")
    assert faults_at(url) == ["config.json"]
    assert deliver(champion, url).copied_bytes == 2
    assert faults_at(url) == []


def test_what_is_damaged_here_or_comes_back_otherwise_is_not_there(champion: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    with monkeypatch.context() as patched:
        patched.setattr(Destination, "digest", lambda *_: "0" * 64)
        for url in (str(there), "memory://changed"):
            with pytest.raises(DamageError, match="comes back otherwise"):
                deliver(champion, url)
    (champion / "model.safetensors").write_bytes(b"x" * 5000)
    with pytest.raises(DamageError, match=r"not that of model\.safetensors"):
        deliver(champion, str(there))
    assert list(there.iterdir()) == []
    with pytest.raises(DamageError):
        deliver(champion, "memory://changed")
    assert publishing.read_pointer(Destination("memory://changed", lambda _: None)) is None


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_so_many_former_champions_stay_as_are_to_be_kept(champion: Path, tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path / 'kept'}"
    place = Destination(url, lambda _: None)
    models = [a_model(champion.parent, number, b"%d" % number) for number in range(2, 7)]
    weights = [evaluations.weights_digest(each) for each in models]

    def those_there() -> list[int]:
        return [number for number, name in enumerate(weights) if place.exists(place.path(name))]

    place.put([b"mine"], place.path("a" * 64, "file"), publishing._record(b"mine"), "file")
    for seq in (0, 1, 2):
        assert deliver(models[seq], url, seq=seq).removed == ()
    assert deliver(models[3], url, seq=3, keep=2).removed == (weights[0],)
    assert those_there() == [1, 2, 3]
    assert deliver(models[3], url, seq=3, keep=2).removed == (), "it is done already"
    assert deliver(models[1], url, seq=4, keep=2).removed == (), "back to one of them: it is none of the former"
    assert deliver(models[4], url, seq=5, keep=1).removed == (weights[3], weights[2])
    assert those_there() == [1, 4]
    assert place.exists(place.path("a" * 64, "file")), "of what else is there nothing goes"
    assert faults_at(url) == []


def test_no_word_in_a_pointer_leads_out_of_the_place(champion: Path, tmp_path: Path) -> None:
    there, mine = tmp_path / "there", tmp_path / "mine"
    mine.mkdir()
    deliver(champion, str(there))
    pointer = orjson.loads((there / "champion.json").read_bytes())
    pointer["former"] = ["../mine", str(mine), "", pointer["folder"]]
    (there / "champion.json").write_bytes(orjson.dumps(pointer))
    assert deliver(champion, str(there), keep=1).removed == ()
    assert deliver(a_model(champion.parent, 2, b"later"), str(there), seq=9, keep=1).removed == ()
    assert mine.is_dir()
    assert len(list(there.iterdir())) == 3


def test_a_former_champion_that_cannot_go_keeps_nobody_from_becoming_it(champion: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "there")
    for number in (2, 3):
        deliver(a_model(champion.parent, number, b"%d" % number), url, seq=number)
    last = a_model(champion.parent, 4, b"4")
    deliver(last, url, seq=9)
    for at in range(1, 10):  # first what the pointing does, then the removing
        diskfaults.arm("EIO", at, for_ever=True)
        try:
            done = deliver(last, url, seq=9, keep=1)
            break
        except TrainqError:
            continue
        finally:
            diskfaults.disarm()
    assert done.is_pointed_at
    assert "stays there: " in done.stays
    assert len(deliver(last, url, seq=9, keep=1).removed) == 1


def test_nothing_is_begun_that_does_not_fit_on_a_disk_of_this_machine(champion: Path, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    with monkeypatch.context() as small:
        small.setattr(room, "usage", lambda _: room.Usage(10_000, 4_000))
        with pytest.raises(TrainqError, match=r"does not take g000001.*no room left for the champion.*its room"):
            deliver(champion, str(there))
        assert not list(there.iterdir())
        assert deliver(champion, "memory://small").is_pointed_at, "of other places nobody knows"
    assert deliver(champion, str(there)).is_pointed_at


@pytest.mark.parametrize("at", range(1, 33, 5))
def test_a_place_that_fails_is_named_and_what_is_there_is_whole(champion: Path, tmp_path: Path, at: int) -> None:
    there = tmp_path / "there"
    diskfaults.arm("EIO", at, for_ever=False)
    try:
        with pytest.raises(TrainqError, match=r"does not take g000001.*look at the place") as caught:
            deliver(champion, str(there))
    finally:
        _, failed = diskfaults.disarm()
    assert failed
    # Not StorageError, with which a task is given back and tried again at once.
    assert not isinstance(caught.value, StorageError)
    assert not (there / "champion.json").exists() or faults_at(str(there)) == []
    assert deliver(champion, str(there)).is_pointed_at
    assert faults_at(str(there)) == []
    assert not [path for path in there.rglob("*") if path.suffix == ".part" or path.name.startswith(".tmp-")]
