"""A process lives until it is gone, whoever owns it."""

import os
import subprocess
import sys

from trainq.liveness import is_alive


def test_the_living_and_the_dead() -> None:
    assert is_alive(os.getpid())
    assert is_alive(1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_alive(ended.pid)
    assert not is_alive(0)
    assert not is_alive(-1)


def test_a_number_that_is_no_pid_is_nobody_s() -> None:
    assert not is_alive(2**31)
    assert not is_alive(2**40)
    assert not is_alive(-2**40)
