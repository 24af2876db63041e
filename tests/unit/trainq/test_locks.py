"""Who holds a lock, and that it ends with its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainq import locks
from trainq.errors import AlreadyRunningError


def test_a_second_lock_names_the_first_ones_pid(tmp_path: Path) -> None:
    lock = locks.acquire_lock(tmp_path / "l", "broker")
    with pytest.raises(AlreadyRunningError) as caught:
        locks.acquire_lock(tmp_path / "l", "broker")
    assert caught.value.pid == os.getpid()
    lock.release()
    locks.acquire_lock(tmp_path / "l", "broker").release()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = f"from trainq import locks; from pathlib import Path; locks.acquire_lock(Path({str(tmp_path / 'l')!r}), 'x')"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    locks.acquire_lock(tmp_path / "l", "x").release()
