"""A manifest proves every byte, or the directory is damaged."""

from pathlib import Path

import orjson
import pytest

from trainq import files, manifests
from trainq.errors import DamageError, NewerFormatError


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    with files.publish_directory(tmp_path / "d") as folder:
        (folder / "a").write_bytes(b"hello")
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_bytes(bytes(100))
        manifests.seal(folder, "thing", {"step": 3})
    return tmp_path / "d"


def test_what_was_sealed_verifies(sealed: Path) -> None:
    manifest = manifests.verify(sealed, "thing")
    assert manifest.facts == {"step": 3}
    assert set(manifest.files) == {"a", "sub/b"}


def test_every_flipped_bit_is_found(sealed: Path) -> None:
    for path in (sealed / "a", sealed / "manifest.json"):
        content = path.read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1
            path.write_bytes(flipped)
            try:
                manifest = manifests.verify(sealed, "thing")
            except DamageError:
                continue
            # White space of the JSON text carries nothing; anything else must have been noticed.
            assert manifest.facts == {"step": 3}
            assert chr(content[position]).isspace()
        path.write_bytes(content)


@pytest.mark.parametrize("damage", ["missing", "extra", "shorter", "no manifest", "other kind"])
def test_other_damage_is_found(sealed: Path, damage: str) -> None:
    match damage:
        case "missing":
            (sealed / "a").unlink()
        case "extra":
            (sealed / "c").write_bytes(b"")
        case "shorter":
            (sealed / "sub" / "b").write_bytes(bytes(99))
        case "no manifest":
            (sealed / "manifest.json").unlink()
    with pytest.raises(DamageError):
        manifests.verify(sealed, "other" if damage == "other kind" else "thing")


def rewrite(sealed: Path, **changes: object) -> None:
    document = orjson.loads((sealed / "manifest.json").read_bytes())
    document |= changes
    kept = {key: value for key, value in document.items() if value is not None}
    (sealed / "manifest.json").write_bytes(orjson.dumps(kept))


@pytest.mark.parametrize("changes", [{"digest": "f" * 64}, {"digest": "f" * 64, "files": None}, {"digest": None}],
                         ids=["another way to the digest", "another layout", "no digest"])
def test_a_newer_format_is_no_damage_whatever_is_new_in_it(sealed: Path, changes: dict[str, object]) -> None:
    rewrite(sealed, format=manifests.FORMAT + 1, **changes)
    with pytest.raises(NewerFormatError):
        manifests.read(sealed, "thing")


def test_a_format_that_only_a_flipped_bit_made_newer_is_damage(sealed: Path) -> None:
    rewrite(sealed, format=manifests.FORMAT + 2)
    with pytest.raises(DamageError, match="digest"):
        manifests.read(sealed, "thing")
