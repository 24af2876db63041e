"""Publishing is whole or not at all, private, and reported by what can be done about it."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trainq import files
from trainq.errors import StorageError, StorageFullError


def test_write_file_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_file(path, b"old")
    first = path.stat().st_ino
    files.write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != first, "a hard link of the old file must keep the old content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    files.write_file(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), files.publish_file(tmp_path / "a") as stream:
        stream.write(b"half")
        raise RuntimeError
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.publish_directory(tmp_path / "d") as folder:
        (folder / "x").write_bytes(b"1")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with files.publish_directory(tmp_path / "d") as folder:
        (folder / "x").write_bytes(b"1")
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d" / "x").read_bytes() == b"1"


def test_a_published_directory_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(StorageError), files.publish_directory(tmp_path / "d"):
        pass
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError),
                                              (errno.EIO, StorageError), (errno.EROFS, StorageError)])
def test_errors_say_what_can_be_done(number: int, kind: type[Exception]) -> None:
    error = files.storage_error(OSError(number, os.strerror(number)), "writing x")
    assert type(error) is kind
    assert "writing x" in str(error)


def test_sweep_removes_what_dead_writers_left_and_nothing_else(tmp_path: Path) -> None:
    code = f"""
from trainq import files; from pathlib import Path
place = Path({str(tmp_path / 'x')!r})
files.temporary_beside(place).write_bytes(b"")
files.temporary_beside(place).mkdir()
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    (tmp_path / "keep").write_bytes(b"")
    mine = files.temporary_beside(tmp_path / "x")
    mine.write_bytes(b"")
    of_an_earlier_boot = tmp_path / f"{files.TEMPORARY_PREFIX}{os.getpid()}-1-abc"
    of_an_earlier_boot.write_bytes(b"")
    assert len(files.sweep_temporaries(tmp_path, tmp_path / "none")) == 3
    assert sorted(tmp_path.iterdir()) == sorted([mine, tmp_path / "keep"])


def test_of_what_grows_the_newest_stays_and_its_writer_goes_on_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "said"
    with path.open("ab", buffering=0) as writer:
        for said in (b"old", b"newest"):
            files.cut_large(path, 6)
            writer.write(said)
        files.cut_large(path, 6)
        writer.write(b"!")
    assert (path.read_bytes(), (tmp_path / "said.1").read_bytes()) == (b"!", b"newest")
    with pytest.raises(StorageError, match="cutting"):
        files.cut_large(tmp_path / "nothing", 6)


def test_replace_link_swaps_at_once(tmp_path: Path) -> None:
    files.replace_link(tmp_path / "current", "a")
    files.replace_link(tmp_path / "current", "b")
    assert (tmp_path / "current").readlink() == Path("b")


def test_make_directory_is_private_and_idempotent(tmp_path: Path) -> None:
    files.make_directory(tmp_path / "a" / "b")
    files.make_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    files.remove_file(tmp_path / "x")
    files.remove_tree(tmp_path / "y")


def test_a_growing_file_is_cut_to_what_is_kept_and_grows_from_there(tmp_path: Path) -> None:
    path = tmp_path / "history"
    growing = files.open_growing(path, keep_bytes=0)
    growing.append(b"one\ntwo\nthr")
    growing.sync()
    growing.close()
    growing = files.open_growing(path, keep_bytes=8)
    growing.append(b"three\n")
    growing.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_growing_file_is_never_padded(tmp_path: Path) -> None:
    files.open_growing(tmp_path / "history", keep_bytes=100).close()
    assert (tmp_path / "history").read_bytes() == b""
