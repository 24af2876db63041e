"""The last copies as they lie in the home."""

from __future__ import annotations

from pathlib import Path

from services.status.copies import Copies
from tests import generations
from trainq import files, snapshots
from trainq.config import Home


def test_the_newest_are_shown_and_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path)
    copies = Copies(home)
    assert copies.last_generations() == ()
    assert copies.last_snapshots() == ()
    names = [generations.publish(home.checkpoints, number, {"weights": b"w"}, job=f"train-{number}",
                                 marks=("odd",) if number == 7 else ()) for number in range(1, 8)]
    (home.checkpoints / names[5] / "manifest.json").write_bytes(b"{}")
    found = copies.last_generations()
    assert [each.name for each in found] == names[:1:-1]
    assert (found[0].job, found[0].reason, found[0].marks) == ("train-7", "job_end", ("odd",))
    assert found[0].at > 0
    assert found[1].marks == ("its manifest cannot be read",)
    files.make_directory(home.snapshots)
    for number in (0, 1, 2, 3):
        snapshots.create(home.snapshots, home.checkpoints / names[number], jobs=b"", job_count=number,
                         created_at=50.0 + number, created_by="test", on_chunk=lambda _: None)
    (home.snapshots / names[3] / "manifest.json").write_bytes(b"{}")
    shown = copies.last_snapshots()
    assert [(each.name, each.at) for each in shown] == [(names[3], 0.0), (names[2], 52.0), (names[1], 51.0)]
    assert (shown[1].jobs, shown[1].size_bytes > 0) == (2, True)
    (home.checkpoints / names[6] / "manifest.json").unlink()
    assert copies.last_generations() == found, "what was read is not read again"
