"""Crash points kill exactly where they are armed, and are nothing otherwise."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from trainq import config, crashpoints


def run(armed: str) -> subprocess.CompletedProcess[bytes]:
    code = ("import os; from trainq import crashpoints; crashpoints.arm_from_environment(os.environ)\n"
            "for n in range(3):\n    os.write(1, b'%d' % n); crashpoints.reach('here')\n")
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False,
                          env={**os.environ, crashpoints.ENVIRONMENT_KEY: armed})


def test_nothing_happens_unless_armed() -> None:
    assert (run("").returncode, run("").stdout) == (0, b"012")
    assert run("elsewhere:1").returncode == 0


def test_the_nth_hit_is_sigkill() -> None:
    killed = run("here:2")
    assert (killed.returncode, killed.stdout) == (-9, b"01")
    assert run("elsewhere:1,here").stdout == b"0"


def test_disarmed_points_are_forgotten() -> None:
    crashpoints.arm("here", 1)
    crashpoints.disarm()
    crashpoints.reach("here")


def test_every_point_in_the_code_is_in_the_list_and_every_one_of_the_list_in_the_code() -> None:
    root = config.project_root()
    reached = {name for folder in ("shared", "services") for path in (root / folder).rglob("*.py")
               for name in re.findall(r'crashpoints\.reach\("([^"]+)"\)', path.read_text())}
    assert reached == set(crashpoints.POINTS)


def test_a_plan_kills_one_process_of_its_name_once(tmp_path: Path) -> None:
    code = ("import os; from trainq import crashpoints; crashpoints.arm_from_environment(os.environ, 'broker');"
            "crashpoints.reach('files.fsync'); print('alive')")
    environment = {**os.environ, "TRAINQ_CRASH_PLANS": str(tmp_path)}
    (tmp_path / "watcher.files.fsync").write_bytes(crashpoints.plan(1, 1))
    (tmp_path / "broker.files.fsync").write_bytes(crashpoints.plan(2, 1))
    codes = [subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode for _ in range(2)]
    assert codes == [-signal.SIGKILL, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["watcher.files.fsync"]


def test_a_plan_counts_from_when_it_is_seen_and_a_new_one_anew(tmp_path: Path) -> None:
    code = ("import os, sys; from trainq import crashpoints; crashpoints.arm_from_environment(os.environ, 'broker')\n"
            "for line in sys.stdin:\n    crashpoints.reach('files.fsync'); print(line, end='', flush=True)\n")
    environment = {**os.environ, "TRAINQ_CRASH_PLANS": str(tmp_path)}
    path = tmp_path / "broker.files.fsync"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def reach() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("again\n")
            return process.stdout.readline()

        assert reach() == "again\n"
        path.write_bytes(crashpoints.plan(1, 3))
        assert [reach(), reach()] == ["again\n"] * 2
        path.write_bytes(crashpoints.plan(2, 3))
        assert [reach(), reach(), reach()] == ["again\n", "again\n", ""]
        assert process.wait(10) == -signal.SIGKILL
        assert not path.exists()
