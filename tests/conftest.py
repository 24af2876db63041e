"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from installations import ROOT, Installation, new_installation, throw_away, wait_for

# What a test starts imports the tree under test, whatever is installed in the environment.
os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT / "shared"), str(ROOT)))
# A slot of the schedule may come at any moment of a test.
os.environ["TRAINQ_SCHEDULE_ENABLED"] = "false"
# However little the machine has free.
os.environ["TRAINQ_DISK_HOLD_GIB"] = "0"
# Several installations live at once.
os.environ["TRAINQ_WEB_PORT"] = "0"

# Where nothing else is said, one thread computes: several tests run beside each other, and threads that wait for each
# other on processors that others use spin, which took a fifth of all the processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Thousands of tests are collected, and torch is imported: nothing of it becomes garbage, and a fifth of the time went
# to looking for some.
gc.set_threshold(100_000, 20, 20)


def pytest_collection_finish() -> None:
    """Leave what is there now alone, as the fork server does: a look at all of it takes a quarter of a second."""
    gc.freeze()


# A shell that starts this in its background makes it ignore Ctrl-C, and whatever it starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An installation that is not started yet."""
    made = new_installation()
    yield made
    throw_away(made, with_logs=getattr(request.node, "failed", False))


@pytest.fixture(scope="module")
def kept() -> Iterator[list[Installation]]:
    """The installation that tests share: none before the first of them, and after one that failed."""
    kept: list[Installation] = []
    yield kept
    for each in kept:
        throw_away(each, with_logs=False)


@pytest.fixture
def shared(request: pytest.FixtureRequest, kept: list[Installation]) -> Iterator[Installation]:
    """For a test that needs no beginning: others of its module may have been here before, with files of other names.

    It runs with the module's ``SETTINGS`` and slow steps. Everything must be at rest again when it passes. When it
    fails, the next one gets another installation.
    """
    if not kept:
        kept.append(new_installation())
    is_as_it_was = False
    try:
        if not kept[0].runs:
            kept[0].settings = {**request.module.SETTINGS, **kept[0].slow_steps()}
            kept[0].start()
        yield kept[0]
        if not getattr(request.node, "failed", False):
            wait_for(kept[0].at_rest, "all is at rest again")
            is_as_it_was = True
    finally:
        if not is_as_it_was:
            throw_away(kept.pop(), with_logs=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Let fixtures know whether their test failed."""
    report = yield
    if report.failed:
        item.failed = True  # type: ignore[attr-defined]  # pytest's own recipe
    return report
