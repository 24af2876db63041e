"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from installations import ROOT, Installation, new_installation, throw_away

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
os.environ["OMP_NUM_THREADS"] = "1"

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Let fixtures know whether their test failed."""
    report = yield
    if report.failed:
        item.failed = True  # type: ignore[attr-defined]  # pytest's own recipe
    return report
