"""Any program's rows: they come out with where they are from, or it is said what the program has done wrong."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.installations import wait_for
from trainq.errors import InputError, UsageError
from trainq.generating.base import GenerateRequest
from trainq.generating.command import Command
from trainq.liveness import is_alive

# Each program comes with an interpreter, its keeper.
slow = pytest.mark.slow

SHELL = "for n in $(seq $TRAINQ_COUNT); do echo \"{\\\"prompt\\\": \\\"$TRAINQ_LEVEL/$TRAINQ_SEED/$n\\\", " \
        "\\\"completion\\\": \\\"a\\\"}\"; done"
ROW = '{"text": "%s", "metadata": {"dataset": "mine", "level": 99, "own": 1}}'


def rows(*argv: str, count: int = 3, **options: Any) -> list[dict[str, Any]]:
    wanted = GenerateRequest(count=count, level=4, seed=17, options={"argv": list(argv), **options})
    return list(Command().rows(wanted))


def shell(script: str, **how: Any) -> list[dict[str, Any]]:
    return rows("sh", "-c", script, **how)


@slow
def test_rows_come_with_where_they_are_from() -> None:
    found = shell(SHELL)
    assert [row["prompt"] for row in found] == ["4/17/1", "4/17/2", "4/17/3"]
    assert found[2]["metadata"] == {
        "dataset": "command", "generator": "command", "generator_version": "1", "level": 4, "seed": 17,
        "sample_index": 2, "program": "sh"}


@slow
def test_a_rows_own_metadata_stay_beside_it_and_blank_lines_are_nothing() -> None:
    found = shell(f"echo; echo '{ROW % 'a'}'; echo '  '; printf '%s' '{ROW % 'b'}'", count=2)
    assert found[1]["metadata"] == {
        "dataset": "mine", "own": 1, "generator": "command", "generator_version": "1", "level": 4, "seed": 17,
        "sample_index": 1, "program": "sh"}


@slow
@pytest.mark.parametrize(("script", "why"), [
    (f"echo '{ROW % 'a'}'; echo; echo '{{\"text\": 3}}'", r"^sh:3:10: text: it is a number, not a string"),
    (f"echo '{ROW % 'a'}'; echo oops", "^sh:2:1: not valid JSON"),
    (f"echo '{ROW % 'a'}'; echo '{ROW % 'a'}'", "^sh:2: the row is that of line 1 again"),
    ("echo '{\"text\": \"a\", \"metadata\": [1]}'", "^sh:1: metadata: it is no object"),
    (f"echo '{ROW % 'a'}'", "^sh: it has printed 1 rows, and TRAINQ_COUNT asks for 3"),
    (f"{SHELL}; echo '{ROW % 'a'}'; sleep 600", "^sh:4: it prints more rows than TRAINQ_COUNT asks for"),
    (f"{SHELL}; exit 7", "^sh: it has ended with exit code 7"),
    (f"{SHELL}; kill -9 $$", "^sh: it was ended by signal 9"),
])
def test_what_a_program_does_wrong_is_named(script: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        shell(script)


@slow
def test_a_program_that_is_not_there_says_so() -> None:
    with pytest.raises(InputError, match=r"^no-such-program: it cannot be run: No such file"):
        rows("no-such-program")


def said(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@slow
@pytest.mark.parametrize("end", ["sleep 600", "exec >&-; sleep 600"])
def test_nothing_of_a_program_that_takes_too_long_is_left(end: str, tmp_path: Path) -> None:
    left = tmp_path / "left"
    start = time.monotonic()
    with pytest.raises(InputError, match=r"it has not ended within 0\.8 seconds"):
        shell(f"setsid sleep 600 & echo $! $$ > {left}; {SHELL}; {end}", limit_seconds=0.8)
    assert time.monotonic() - start < 15
    assert len(said(left)) == 2
    assert not [pid for pid in said(left) if is_alive(pid)]


@slow
def test_nothing_is_left_of_a_program_whose_rows_are_wanted_no_more(tmp_path: Path) -> None:
    left = tmp_path / "left"
    wanted = GenerateRequest(count=3, level=1, seed=1, options={
        "argv": ["sh", "-c", f"sleep 600 & echo $! $$ > {left}; {SHELL}; sleep 600"]})
    found = Command().rows(wanted)
    next(found)
    assert len(wait_for(lambda: said(left), "its pids", 10)) == 2
    found.close()  # type: ignore[attr-defined]
    assert not [pid for pid in said(left) if is_alive(pid)]


@slow
def test_a_line_without_an_end_is_not_held() -> None:
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with pytest.raises(InputError, match="the line is longer than 16 MiB"):
        rows(sys.executable, "-c", endless)


@pytest.mark.parametrize(("options", "why"), [
    ({}, "argv of the generator command is no program"), ({"argv": []}, "argv"), ({"argv": "seq 3"}, "argv"),
    ({"argv": ["seq", 3]}, "argv"), ({"argv": [""]}, "argv"), ({"argv": ["a\0"]}, "argv"),
    ({"argv": ["seq"], "limit_seconds": 0}, "limit_seconds"),
    ({"argv": ["seq"], "limit_seconds": True}, "limit_seconds"),
    ({"argv": ["seq"], "limit_seconds": float("nan")}, "limit_seconds"),
    ({"argv": ["seq"], "limit": 3}, r"no option 'limit' \(known are: argv, limit_seconds\)"),
])
def test_options_that_are_none_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        next(Command().rows(GenerateRequest(count=1, level=1, seed=1, options=options)))
