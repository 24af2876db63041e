"""What follows from how the lives of a service ended; the record of it, and what can become of that."""

from pathlib import Path

import pytest

from trainq.service import ends
from trainq.service.ends import Ends, Record


def test_five_ends_by_its_own_doing_pause_it() -> None:
    known = Ends()
    for number in range(5):
        assert not known.why_paused("preparer"), number
        known = known.by_itself(f"exit {number}")
    assert known.why_paused("preparer") == (
        "it has ended 5 times by its own doing and done nothing that lasts, the last time: exit 4; "
        "trainq services restart preparer tries again")


def test_the_machine_s_faults_never_pause_it_and_it_waits_ever_longer() -> None:
    known, waited = Ends(), []
    for _ in range(9):
        known = known.by_machine("the disk is full")
        assert not known.why_paused("preparer")
        waited.append(known.wait_seconds)
    assert waited == [0, 1, 3, 7, 15, 31, 60, 60, 60]
    assert Ends().wait_seconds == 0


def test_what_is_recorded_is_there_for_the_next_life(tmp_path: Path) -> None:
    Record(tmp_path, "trainer").put(Ends().by_itself("exit 3"))
    assert Record(tmp_path, "trainer").ends == Ends(own=1, reason="exit 3")
    assert ends.read(tmp_path, "preparer") == Ends()


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5000, b'{"own": "many"}', b"\xff"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trainer.ends").write_bytes(content)
    assert ends.read(tmp_path, "trainer") == Ends()


def test_a_reason_is_bounded_and_can_be_written(tmp_path: Path) -> None:
    Record(tmp_path, "trainer").put(Ends().by_itself("\udcff" * 10_000))
    assert len(ends.read(tmp_path, "trainer").reason) == 500


def test_what_is_forgotten_counts_no_more(tmp_path: Path) -> None:
    ends.forget(tmp_path, "preparer")  # there is nothing: nothing happens
    record = Record(tmp_path, "preparer")
    record.put(Ends(own=ends.MOST_OWN, reason="exit 1"))
    ends.forget(tmp_path, "preparer")
    assert Record(tmp_path, "preparer").ends == Ends()


def test_a_disk_that_takes_no_record_ends_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path / "gone", "trainer")
    record.put(Ends().by_itself("exit 3"))
    assert record.ends.own == 1
