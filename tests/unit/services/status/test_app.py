"""The status process by itself: a real one, and at the broker's sockets a test that answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import orjson
import pytest

from trainq import config, files, messages, picture
from trainq.config import Home
from trainq.messages import EventView, GetOverview, Overview, ReplyEnvelope
from trainq.picture import StatusPicture
from trainq.transport import Poller, Publisher, ReplySocket, Subscriber, new_context

DEADLINE_SECONDS = 30.0


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # the path of a socket is short
        made = Home(Path(folder) / "h")
        for name in made.folders():
            files.make_directory(name)
        yield made


class Watched:
    """A status process and what it publishes; it also plays the broker, if it is told to."""

    def __init__(self, home: Home, interval_seconds: float) -> None:
        self._context = new_context()
        self._pictures = Subscriber(self._context, home.status_socket, (picture.STATUS_TOPIC,))
        self._requests = ReplySocket(self._context, home.request_socket)
        self._events = Publisher(self._context, home.event_socket)
        self._poller = Poller()
        self._poller.watch(self._pictures)
        self._poller.watch(self._requests)
        self.pictures: list[StatusPicture] = []
        self.questions = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.status"], cwd=config.project_root(), stderr=subprocess.PIPE,
            env={**os.environ, "TRAINQ_HOME": str(home.root), "TRAINQ_STATUS_INTERVAL_SECONDS": str(interval_seconds)})

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._context.destroy(linger=0)

    def stop(self) -> tuple[int, str]:
        self.process.terminate()
        _, error = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, error.decode()

    def until(self, reached: Callable[[], bool], *, answering: bool = False, events: bool = False) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not reached():
            assert time.monotonic() < deadline, "it did not come to that"
            if events:
                self._events.publish(messages.EVENT_TOPIC + b"QueuePaused", messages.encode(
                    EventView(seq=1, at=0.0, type="QueuePaused", job="", body={})))
            self._poller.wait(0.01)
            self.pictures += [msgspec.msgpack.decode(body, type=StatusPicture) for _, body in self._pictures.drain()]
            for incoming in self._requests.drain(100):
                request = messages.decode_request(incoming.payload)
                if isinstance(request, GetOverview):
                    self.questions += 1
                    if answering:
                        self._requests.reply(incoming, messages.encode(
                            ReplyEnvelope(request_id=request.request_id, reply=OVERVIEW)))


OVERVIEW = Overview(journal_id="j", seq=1, at=0.0, paused_reason=None, counts={}, running=[], waiting=[],
                    waiting_reason="the queue is empty", generation=0, checkpoint="", step=0, services=[])


@pytest.fixture
def start(home: Home) -> Iterator[Callable[[float], Watched]]:
    started: list[Watched] = []

    def begin(interval_seconds: float) -> Watched:
        started.append(Watched(home, interval_seconds))
        return started[-1]

    yield begin
    for watched in started:
        watched.close()


def log_events(home: Home) -> list[str]:
    return [orjson.loads(line)["event"] for line in (home.logs / "status.log").read_bytes().splitlines()]


def test_a_picture_that_cannot_be_written_is_published_all_the_same(home: Home,
                                                                    start: Callable[[float], Watched]) -> None:
    home.status_file.mkdir()  # nothing can be renamed to it
    watched = start(0.05)
    watched.until(lambda: len(watched.pictures) >= 5, answering=True)
    assert log_events(home).count("picture_not_written") == 1
    assert "turn_failed" not in log_events(home)
    home.status_file.rmdir()
    watched.until(home.status_file.is_file, answering=True)
    assert watched.stop() == (0, "")
    assert log_events(home).count("picture_written_again") == 1
    assert msgspec.json.decode(home.status_file.read_bytes(), type=StatusPicture).journal_id == "j"


def test_it_ends_well_though_its_last_picture_cannot_be_written(home: Home,
                                                                start: Callable[[float], Watched]) -> None:
    home.status_file.mkdir()
    watched = start(0.05)
    watched.until(lambda: bool(watched.pictures))
    assert watched.pictures[0].why.startswith("the broker has not been heard of")
    assert watched.stop() == (0, "")


def test_events_wake_it_to_ask_sooner_but_not_more_than_four_times_a_second(
        start: Callable[[float], Watched]) -> None:
    watched = start(3600.0)
    watched.until(lambda: watched.questions >= 1, answering=True)
    watched.until(lambda: watched.questions >= 2, answering=True, events=True)
    began = time.monotonic()
    watched.until(lambda: watched.questions >= 7, answering=True, events=True)
    # The first of these five may come late for its turn, the four behind it have each waited.
    assert time.monotonic() - began >= 4 * 0.25 - 0.1
