"""Crash points kill exactly where they are armed, and are nothing otherwise."""

import os
import subprocess
import sys

from trainq import crashpoints


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
