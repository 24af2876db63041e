"""A program is kept: what it has started ends with it, and nothing else does."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.installations import wait_for
from trainq import keeper
from trainq.liveness import family, is_alive

# Each of them starts interpreters.
pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ}


def run(*words: str) -> int | OSError | None:
    kept, reader = keeper.start(words, ENVIRONMENT)
    assert kept.wait(30) == 0
    return keeper.ending(reader)


def pids(path: Path, count: int = 1) -> list[int]:
    """What the program has written there, once it is all of it."""
    def written() -> list[int]:
        words = path.read_text().split() if path.exists() else []
        return [int(word) for word in words] if len(words) == count else []
    found: list[int] = wait_for(written, f"{count} pids in {path}", 20)
    return found


def ended(pid: int) -> Callable[[], bool]:
    return lambda: not is_alive(pid)


@pytest.mark.parametrize(("words", "code"), [
    (("true",), 0), (("sh", "-c", "exit 7"), 7), (("sh", "-c", "kill -9 $$"), -9), (("sh", "-c", "kill -15 $$"), -15)])
def test_how_it_ended_is_handed_on(words: tuple[str, ...], code: int) -> None:
    assert run(*words) == code


def test_what_it_says_goes_where_the_caller_wants_it_and_it_has_nothing_to_read() -> None:
    output, writer = os.pipe()
    kept, reader = keeper.start(("sh", "-c", "cat; echo said; ps -o pgid= -p $$"), ENVIRONMENT, writer)
    os.close(writer)
    with os.fdopen(output, "rb") as stream:
        assert stream.read().split() == [b"said", b"%d" % kept.pid]  # a group of its own, which is the keeper's
    assert kept.wait(30) == 0
    assert keeper.ending(reader) == 0


def test_what_cannot_be_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "no-program").write_text("text")
    for words, number in (("no-such-program", errno.ENOENT), (str(tmp_path / "no-program"), errno.EACCES)):
        error = run(words)
        assert isinstance(error, OSError)
        assert error.errno == number


def test_the_program_has_the_signals_and_the_folder_it_would_have_alone(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('somebody else')\n")
    monkeypatch.chdir(tmp_path)
    said = "import signal, sys; sys.exit(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    assert run(sys.executable, "-P", "-c", said) == 0


def test_whom_it_leaves_behind_ends_with_it_and_nobody_else(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "600"])
    try:
        left = tmp_path / "left"
        words = f"sleep 600 & echo $! >> {left}; (setsid sleep 601 & echo $! >> {left}); exit 5"
        assert run("sh", "-c", words) == 5
        assert not [pid for pid in pids(left, 2) if is_alive(pid)]
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_orphans_that_end_while_it_runs_are_no_zombies(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    kept, reader = keeper.start(["sh", "-c", f"(sh -c 'echo $$ > {path}' &); exec sleep 600"], ENVIRONMENT)
    wait_for(ended(pids(path)[0]), "the end of an orphan", 20)
    kept.send_signal(signal.SIGTERM)
    assert kept.wait(20) == 0
    assert keeper.ending(reader) == -signal.SIGTERM


def test_who_does_not_end_when_asked_is_killed_at_the_second_order(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    stubborn = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {path}; while :; do sleep 0.1; done' & wait; wait"
    kept, reader = keeper.start(["sh", "-c", stubborn], ENVIRONMENT)
    inner = pids(path)[0]
    kept.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # it is not to end by that: there is nothing to wait for
    assert (kept.poll(), is_alive(inner)) == (None, True)
    kept.send_signal(signal.SIGUSR1)
    assert kept.wait(20) == 0
    assert keeper.ending(reader) == -signal.SIGKILL
    assert not is_alive(inner)


def test_the_end_of_whoever_asked_for_it_ends_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    words = ["sh", "-c", f"(setsid sleep 600 & echo $! > {path}); exec sleep 601"]
    asker = subprocess.Popen([sys.executable, "-c", "import os, sys; from trainq import keeper; "
                              "keeper.start(sys.argv[1:], dict(os.environ))[0].wait()", *words])
    orphan = pids(path)[0]
    # The subshell that has said it is there for a moment more.
    wait_for(lambda: len(family(asker.pid) - {asker.pid} | {orphan}) == 3, "keeper, program and orphan are left", 20)
    everybody = family(asker.pid) - {asker.pid} | {orphan}
    asker.kill()
    asker.wait()
    for pid in everybody:
        wait_for(ended(pid), f"the end of {pid}", 20)


def test_with_whoever_reads_what_it_says_it_is_killed_and_not_asked_first(tmp_path: Path) -> None:
    path, was_asked = tmp_path / "pids", tmp_path / "asked"
    words = ["sh", "-c", f"trap 'touch {was_asked}' TERM; setsid sleep 600 & echo $$ $! > {path}; "
                         "while :; do sleep 0.1; done"]
    asker = subprocess.Popen([sys.executable, "-c", "import os, sys; from trainq import keeper; "
                              "keeper.start(sys.argv[1:], dict(os.environ), os.pipe()[1])[0].wait()", *words])
    left = pids(path, 2)
    everybody = family(asker.pid) - {asker.pid} | {*left}
    asker.kill()
    asker.wait()
    for pid in everybody:
        wait_for(ended(pid), f"the end of {pid}", 20)
    assert not was_asked.exists()


def test_one_that_is_stopped_hears_that_it_is_to_end(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    words = f"trap 'exit 3' TERM; echo $$ > {path}; while :; do sleep 0.1; done"
    kept, reader = keeper.start(["bash", "-c", words], ENVIRONMENT)
    os.kill(pids(path)[0], signal.SIGSTOP)
    kept.send_signal(signal.SIGTERM)
    assert kept.wait(20) == 0
    assert keeper.ending(reader) == 3


def test_the_exit_code_comes_where_the_end_of_children_is_ignored() -> None:
    words = ("import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); from trainq import keeper; "
             "kept, reader = keeper.start(['sh', '-c', 'exit 7'], dict(os.environ)); kept.wait(); "
             "sys.exit(keeper.ending(reader))")
    assert subprocess.run([sys.executable, "-c", words], check=False, timeout=30).returncode == 7


def test_what_a_killed_keeper_leaves_is_killed_by_whoever_asked_for_it(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    # One of them has no environment.
    program = f"trap '' TERM; env -i bash -c 'sleep 600 & wait' & echo $! $$ > {path}; while :; do sleep 0.1; done"
    words = ("import os, sys; from trainq import keeper; from trainq.liveness import adopt_orphans; adopt_orphans(); "
             "kept, reader = keeper.start(sys.argv[1:], {**os.environ, 'LENT': '1'}); print(kept.pid, flush=True); "
             "kept.wait(); print(keeper.ending(reader), keeper.kill_left(kept, 'LENT=1'))")
    asker = subprocess.Popen([sys.executable, "-c", words, "bash", "-c", program], stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None
    kept = int(asker.stdout.readline())
    left = pids(path, 2)
    os.kill(kept, signal.SIGKILL)
    assert asker.communicate(timeout=30)[0] == "None True\n"
    assert not [pid for pid in left if is_alive(pid)]
