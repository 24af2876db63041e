"""trainq.events against a real broker: nothing is missed, whatever is lost, killed or put back."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from places import ROOT, Place, Worker
from trainq import events
from trainq.client import BrokerClient
from trainq.errors import AnotherJournalError, BusyError
from trainq.events import emit, subscribe
from trainq.ids import new_request_id
from trainq.messages import Done, Emit
from trainq.transport import Subscriber

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


def test_all_that_ever_was_and_then_what_happens(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    worker.train_next()
    heard = subscribe(broker.home.root, "JobSucceeded", "user.Mine", since=0)
    assert [next(heard).job for _ in range(2)] == ["prepare-1", "train-1"]
    emit(broker.home.root, "Other")
    emit(broker.home, "Mine", score=0.5, best=None)
    event = next(heard)
    assert (event.type, event.job, event.fields) == ("user.Mine", "", {"score": 0.5, "best": None})
    later = subscribe(str(broker.home.root), since=event.seq - 1, journal_id=event.journal_id)
    assert next(later) == event


def test_nothing_is_missed_over_the_deaths_of_the_broker(broker: Place) -> None:
    heard = subscribe(broker.home, since=0)
    seen = [next(heard)]
    for number in range(3):
        emit(broker.home, "Mine", number=number)
        broker.stop("broker", signal.SIGKILL)
        broker.start("broker")
        emit(broker.home, "Mine", number=number + 10)
    while len(seen) < 10:
        seen.append(next(heard))
    assert [event.seq for event in seen] == list(range(1, 11))
    assert [event.type for event in seen] == ["BrokerStarted", *["user.Mine", "BrokerStarted", "user.Mine"] * 3]


def test_what_is_lost_on_the_way_is_asked_for(broker: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = itertools.count()

    class Lossy(Subscriber):
        def drain(self, limit: int = 1000) -> list[tuple[bytes, bytes]]:
            return [message for message in super().drain(limit) if next(lost) % 3 == 1]

    monkeypatch.setattr(events, "Subscriber", Lossy)
    seen: list[int] = []

    def listen() -> None:
        for event in subscribe(broker.home, "user.Mine", since=0):
            seen.append(event.fields["number"])
            if event.fields["number"] == 29:
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    for number in range(30):
        emit(broker.home, "Mine", number=number)
    listener.join(30)
    assert seen == list(range(30))
    assert next(lost) > 3, "some were heard, and some of those were thrown away"


@pytest.mark.parametrize("how", ["older", "another"])
def test_a_journal_that_was_put_back_or_is_another_one_is_said(how: str, broker: Place, tmp_path: Path) -> None:
    broker.stop("broker")
    kept = shutil.copy(broker.home.journal, tmp_path / "kept")
    broker.start("broker")
    heard = subscribe(broker.home, since=0)
    for _ in range(3):
        emit(broker.home, "Mine")
    assert [next(heard).seq for _ in range(5)] == [1, 2, 3, 4, 5]
    broker.stop("broker", signal.SIGKILL)
    for left in broker.home.root.glob("journal.db*"):
        left.unlink()
    if how == "older":
        shutil.copy(kept, broker.home.journal)
    broker.start("broker")
    for _ in range(6):  # more than there were before
        emit(broker.home, "Other")
    with pytest.raises(AnotherJournalError, match="put back" if how == "older" else "another one now"):
        next(heard)


def test_too_much_is_refused_and_comes_once_there_is_room(broker: Place) -> None:
    with BrokerClient(broker.home) as client:
        for _ in range(40):
            request = Emit(request_id=new_request_id(), name="Much", fields={"text": "x" * 3000})
            try:
                client.call(request, Done, timeout_seconds=0.5)
            except BusyError:
                break
        with pytest.raises(BusyError, match="ask again in"):
            client.call(request, Done, timeout_seconds=0.5)
    broker.run("pause")  # others are served meanwhile
    out, _ = broker.run("events", "--after", "0")
    assert "UserNoted" in out


def test_the_example_of_the_guide_runs(broker: Place, worker: Worker, rows: Path) -> None:
    section = (ROOT / "docs" / "guide.md").read_text().split("## Events for your own programs")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    example = example.replace('"var"', repr(str(broker.home.root)))
    broker.run("submit", str(rows))
    worker.train_next()
    done = subprocess.run([sys.executable, "-c", example], env={**broker.environment},
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "train-1" in done.stdout
    assert broker.events()[-1]["body"]["fields"] == {"job": "train-1"}
