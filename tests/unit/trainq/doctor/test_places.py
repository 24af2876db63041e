"""The home and what it lies on: each fault is planted, and named with its mend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from trainq.config import Home, Settings
from trainq.doctor import places
from trainq.doctor.findings import Finding, Subject, Verdict
from trainq.doctor.places import mount_of


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """An installation that was started once."""
    made = Subject({}, tmp_path / "checkout", Home(tmp_path / "home"), Settings())
    for folder in made.home.folders():
        folder.mkdir(mode=0o700, parents=True)
    return made


def wrong(found: Iterable[Finding]) -> list[tuple[Verdict, str, str]]:
    return [(each.verdict, each.found, each.mend) for each in found if each.verdict is not Verdict.OK]


def only(found: Iterable[Finding]) -> tuple[Verdict, str, str]:
    (one,) = wrong(found)
    return one


def test_a_home_as_it_should_be(subject: Subject) -> None:
    assert wrong(places.folders(subject)) == wrong(places.socket_paths(subject)) == []


def test_no_home_yet_is_no_fault(tmp_path: Path) -> None:
    subject = Subject({}, tmp_path, Home(tmp_path / "nowhere"), Settings())
    verdict, _, mend = only(places.folders(subject))
    assert (verdict, "TRAINQ_HOME" in mend) == (Verdict.WARN, True)


def test_a_home_that_others_may_enter(subject: Subject) -> None:
    subject.home.root.chmod(0o755)
    verdict, found, mend = only(places.folders(subject))
    assert verdict is Verdict.FAIL
    assert "0755" in found
    assert mend == f"chmod 700 {subject.home.root}"


def test_a_token_that_others_may_read(subject: Subject) -> None:
    subject.home.token_file.touch(mode=0o600)
    assert wrong(places.folders(subject)) == []
    subject.home.token_file.chmod(0o640)
    verdict, found, mend = only(places.folders(subject))
    assert (verdict, "0640" in found) == (Verdict.FAIL, True)
    assert "restart web" in mend


def test_a_home_of_somebody_else(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    verdict, found, mend = only(places.folders(subject))
    assert (verdict, "this is user 12345" in found) == (Verdict.FAIL, True)
    assert "chown" in mend


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path)],
                         ids=["file", "fifo", "loop"])
def test_something_else_in_place_of_a_folder(subject: Subject, make: Callable[[Path], None]) -> None:
    subject.home.cache.rmdir()
    make(subject.home.cache)
    _, found, mend = only(places.folders(subject))
    assert "cache" in found
    assert mend


def test_the_home_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    verdict, found, _ = only(places.folders(Subject({}, tmp_path, Home(tmp_path / "home"), Settings())))
    assert (verdict, "no folder" in found) == (Verdict.FAIL, True)


def test_a_folder_that_is_gone_is_named_with_the_disk_that_may_not_be_mounted(subject: Subject) -> None:
    subject.home.checkpoints.rmdir()
    verdict, found, mend = only(places.folders(subject))
    assert (verdict, found) == (Verdict.WARN, "not there: checkpoints")
    assert "mounted" in mend


def test_a_folder_that_cannot_be_written(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.home.data.chmod(0o500)
    # Root, as whom tests may run, may everything.
    monkeypatch.setattr(os, "access", lambda path, _mode: bool(Path(path).stat().st_mode & 0o200))
    verdict, found, mend = only(places.folders(subject))
    assert (verdict, mend) == (Verdict.FAIL, f"chmod u+rwx {subject.home.data}")
    assert "0500" in found


TABLE = r"""
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:22 / /mnt rw,relatime - nfs4 server:/x rw,vers=4.2
24 22 0:23 / /mnt/with\040space rw - xfs /dev/sdb rw,nobarrier
25 22 0:24 / /old rw - ext4 /dev/sdc rw
26 22 0:25 / /old ro - ext4 /dev/sdd ro
rubbish
27 22
"""


@pytest.mark.parametrize(("path", "point", "type_"), [
    ("/home/x", "/", "ext4"), ("/mnt", "/mnt", "nfs4"), ("/mnt/with space/home", "/mnt/with space", "xfs"),
    ("/mntx", "/", "ext4"), ("/old/x", "/old", "ext4")])
def test_which_file_system_a_path_lies_on(path: str, point: str, type_: str) -> None:
    found = mount_of(Path(path), TABLE)
    assert found is not None
    assert (found.point, found.type) == (point, type_)


def test_the_last_one_mounted_over_another_counts() -> None:
    found = mount_of(Path("/old/x"), TABLE)
    assert found is not None
    assert "ro" in found.options
    assert mount_of(Path("/x"), "") is None


@pytest.mark.parametrize(("type_", "options", "verdict", "said"), [
    ("ext4", "rw", Verdict.OK, ""), ("nfs4", "rw", Verdict.FAIL, "network"), ("vfat", "rw", Verdict.FAIL, "hard links"),
    ("tmpfs", "rw", Verdict.WARN, "reboot"), ("overlay", "rw", Verdict.WARN, "container"),
    ("ext4", "ro", Verdict.FAIL, "read-only"), ("ext4", "rw,nobarrier", Verdict.WARN, "power cut")])
def test_what_each_file_system_promises(subject: Subject, monkeypatch: pytest.MonkeyPatch, type_: str, options: str,
                                        verdict: Verdict, said: str) -> None:
    monkeypatch.setattr(places, "_read_mounts", lambda: f"1 0 0:1 / / {options} - {type_} none {options}")
    (finding,) = places.file_system(subject)
    assert finding.verdict is verdict
    assert said in finding.found
    assert bool(finding.mend) == (verdict is not Verdict.OK)


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    subject = Subject({}, tmp_path, Home(Path("/tmp") / ("x" * 100)), Settings())
    verdict, found, mend = only(places.socket_paths(subject))
    assert (verdict, "107" in found) == (Verdict.FAIL, True)
    assert "shorter" in mend


def test_orders_that_lie_in_control(subject: Subject) -> None:
    (subject.home.control / ".pause").write_text("for lunch")
    (subject.home.control / ".tmp-x").touch()
    verdict, found, mend = only(places.standing_files(subject))
    assert (verdict, mend) == (Verdict.WARN, f"rm {subject.home.control / '.pause'}")
    assert ".pause is there" in found
