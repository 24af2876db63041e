"""A process lives until it is gone, whoever owns it."""

import os
import subprocess
import sys

from trainq.liveness import families, is_alive


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


def test_families_are_found_with_one_look() -> None:
    nested = "import subprocess, sys; subprocess.run(['sleep', '60'], check=False)"
    child = subprocess.Popen([sys.executable, "-c", nested])
    try:
        while len(found := families((os.getpid(), child.pid))[child.pid]) < 2:
            assert child.poll() is None
        assert found < families((os.getpid(),))[os.getpid()]
    finally:
        for pid in families((child.pid,))[child.pid]:
            os.kill(pid, 9)
        child.wait()
