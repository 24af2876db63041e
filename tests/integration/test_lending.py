"""A program with the GPU, at a real terminal: what its signals do, and who ends with it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.installations import wait_for
from tests.places import Place
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.liveness import family, is_alive
from trainq.messages import Heartbeat, HeartbeatReply, Lifecycle

pytestmark = pytest.mark.slow

LEND = f"{sys.executable} -m trainq.cli lend --"
SECONDS = 60.0


@pytest.fixture
def place(broker: Place) -> Place:
    """A broker that has heard of a trainer which has nothing in the memory."""
    with BrokerClient(broker.home) as client:
        client.call(Heartbeat(request_id=new_request_id(), service="trainer", session="s", pid=1,
                              state=Lifecycle.RUNNING), HeartbeatReply)
    return broker


def send_all(pid: int, number: signal.Signals) -> None:
    for each in family(pid):
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(each, number)


class Terminal:
    """An interactive shell at a terminal of its own."""

    def __init__(self, place: Place) -> None:
        self._near, far = pty.openpty()
        # The child that makes the terminal its own is Python: a shell alone does not.
        words = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " \
                "os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
        self.shell = subprocess.Popen([sys.executable, "-c", words], stdin=far, stdout=far, stderr=far,
                                      start_new_session=True, env={**place.environment, "PS1": "$ ", "TERM": "dumb"})
        os.close(far)

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def until(self, wanted: str) -> str:
        """What it shows, until ``wanted`` is in it."""
        shown, until = "", time.monotonic() + SECONDS
        while wanted not in shown:
            assert time.monotonic() < until, shown
            if select.select([self._near], [], [], 0.2)[0]:
                shown += os.read(self._near, 4096).decode()
        return shown

    def foreground(self) -> int:
        """The process group that has the keyboard."""
        return os.tcgetpgrp(self._near)

    def end(self) -> None:
        send_all(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        os.close(self._near)


@pytest.fixture
def terminal(place: Place) -> Iterator[Terminal]:
    made = Terminal(place)
    try:
        yield made
    finally:
        made.end()


def program(*words: str) -> str:
    return shlex.join(["bash", "-c", "; ".join(words)])


def test_ctrl_z_stops_the_program_alone_and_once_more_has_it_go_on(terminal: Terminal, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    terminal.type(f"{LEND} {program(f'echo $$ > {pid}', 'echo i-am-up', 'read word', 'echo got-$word', 'exit 3')}\n")
    terminal.until("\ni-am-up")
    terminal.type("\x1a")
    terminal.until("the program is stopped, and has the GPU all the same")
    running = psutil.Process(int(pid.read_text()))
    wait_for(lambda: running.status() == psutil.STATUS_STOPPED, "it is stopped")
    assert running.parent().parent().status() != psutil.STATUS_STOPPED, "who says to the broker that it lives"
    terminal.type("\x1a")
    wait_for(lambda: running.status() != psutil.STATUS_STOPPED, "the program goes on")
    terminal.type("bread\n")
    terminal.until("\ngot-bread")
    terminal.type("echo code-$?\n")
    terminal.until("\ncode-3")


def test_a_program_that_waits_for_the_terminal_in_the_background_has_the_gpu_all_the_same(terminal: Terminal) -> None:
    """Else the command is stopped with it, is not heard of any more, and the trainer begins beside the program."""
    terminal.type("stty tostop\n")
    terminal.type(f"{LEND} {program('exec 3< /dev/tty', 'read word <&3', 'echo got-$word', 'exit 3')} &\n")
    terminal.until("the program waits for the terminal")
    terminal.type("jobs\n")
    assert "Running" in terminal.until("trainq.cli lend")
    terminal.type("fg\n")
    wait_for(lambda: terminal.foreground() != terminal.shell.pid, "the shell has given the terminal away")
    terminal.type("\x1a")
    terminal.type("bread\n")
    terminal.until("\ngot-bread")


@pytest.mark.parametrize("ignores", [False, True])
def test_the_end_of_the_terminal_is_ignored_where_nohup_says_so(place: Place, tmp_path: Path, ignores: bool) -> None:
    up, go = tmp_path / "up", tmp_path / "go"
    words = program(f"touch {up}", f"until [ -e {go} ]; do sleep 0.1; done")
    # Said either way: whoever runs the tests may have been started with nohup.
    signals = f"env {'--ignore-signal' if ignores else '--default-signal'}=HUP"
    lend = subprocess.Popen(shlex.split(f"{signals} {LEND} {words}"), env=place.environment,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(up.exists, "the program has begun")
        send_all(lend.pid, signal.SIGHUP)  # as the kernel does it to all at a terminal
        if ignores:
            go.touch()
        said = lend.communicate(timeout=SECONDS)[1]
    finally:
        go.touch()
        lend.kill()
    assert (b"interrupted" in said) is not ignores
    # Of the terminal's signal and the keeper's order the first that comes ends it.
    assert lend.returncode in ((0,) if ignores else (128 + signal.SIGHUP, 128 + signal.SIGTERM))


def test_what_a_killed_keeper_leaves_is_killed_and_nobody_else(place: Place, tmp_path: Path) -> None:
    """What ran before in the shell that has become the command is its child, and what that starts may come to it."""
    go, ours, theirs = tmp_path / "go", tmp_path / "ours", tmp_path / "theirs"
    other = f"(until [ -e {go} ]; do sleep 0.1; done; sleep 600 & echo $! > {theirs}) > /dev/null 2>&1 & "
    words = program(f"sleep 600 & echo $! > {ours}", "wait")
    lend = subprocess.Popen(["bash", "-c", f"{other} exec {LEND} {words}"], env=place.environment,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    mine = int(wait_for(lambda: ours.exists() and ours.read_text(), "the program has begun"))
    go.touch()
    innocent = int(wait_for(lambda: theirs.exists() and theirs.read_text(), "the other one has begun"))
    try:
        wait_for(lambda: psutil.Process(innocent).ppid() == lend.pid, "it comes to the command")
        keeper = psutil.Process(mine).parent().parent()
        assert keeper.ppid() == lend.pid
        keeper.kill()
        said = lend.communicate(timeout=SECONDS)[1]
        assert lend.returncode == 128 + signal.SIGKILL
        assert b"what ran it was killed" in said
        assert not is_alive(mine)
        assert is_alive(innocent)
    finally:
        os.kill(innocent, signal.SIGKILL)
