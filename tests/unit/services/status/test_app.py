"""The status process by itself: a real one, and at the broker's sockets a test that answers."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import orjson
import psutil
import pytest
import zmq

from tests.pictures import fold, job
from trainq import alarms, config, deltas, files, messages, picture
from trainq.config import Home
from trainq.deltas import Beat, Delta, Follower, GetPicture, PictureEnvelope
from trainq.messages import (
    EventView,
    GetOverview,
    Heartbeat,
    Lifecycle,
    Overview,
    PauseCause,
    Refused,
    ReplyEnvelope,
    ServiceView,
)
from trainq.picture import StatusPicture
from trainq.transport import Poller, Publisher, ReplySocket, RequestSocket, Subscriber, new_context

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

    def __init__(self, home: Home, interval_seconds: float, **environment: str) -> None:
        self._context = new_context()
        self._published = Subscriber(self._context, home.status_socket, (b"",))
        self._asking = RequestSocket(self._context, home.picture_socket)
        self._catching_up = RequestSocket(self._context, home.picture_socket)
        self._requests = ReplySocket(self._context, home.request_socket)
        self._events = Publisher(self._context, home.event_socket)
        self._poller = Poller()
        for endpoint in (self._published, self._requests, self._asking, self._catching_up):
            self._poller.watch(endpoint)
        self.pictures: list[StatusPicture] = []
        self.deltas: list[Delta] = []
        self.beats: list[Beat] = []
        self.answers: list[bytes] = []
        self.follower = Follower()
        self.home = home
        self.questions = 0
        # What its newest heartbeat says, as a broker would show it.
        self.heard: ServiceView | None = None
        # What is answered; it may be changed meanwhile. Without services its own heartbeat is in it.
        self.overview = OVERVIEW
        self._ask_at = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.status"], cwd=config.project_root(), stderr=subprocess.PIPE,
            env={**os.environ, "TRAINQ_HOME": str(home.root), "TRAINQ_STATUS_INTERVAL_SECONDS": str(interval_seconds),
                 **environment})

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
            for topic, body in self._published.drain():
                self._hear(topic, body)
            self.answers += self._asking.drain()
            self._catch_up()
            for incoming in self._requests.drain(100):
                request = messages.decode_request(incoming.payload)
                if isinstance(request, Heartbeat):
                    self.heard = ServiceView(
                        name=request.service, session=request.session, pid=request.pid, state=request.state,
                        detail=request.detail, cause=request.cause, started_at=request.started_at,
                        age_seconds=0.1)
                if isinstance(request, GetOverview):
                    self.questions += 1
                    if answering:
                        self._requests.reply(incoming, messages.encode(
                            ReplyEnvelope(request_id=request.request_id, reply=self._reply())))

    @property
    def shown(self) -> StatusPicture | None:
        """The picture as a follower has it."""
        return self.follower.picture

    def _reply(self) -> Overview:
        own = [self.heard] if self.heard is not None else []
        return msgspec.structs.replace(self.overview, services=self.overview.services or own)

    def _catch_up(self) -> None:
        """As docs/protocol.md has it: who has missed something asks, and asks again."""
        for answer in self._catching_up.drain():
            self.follower.whole(messages.decode_as(PictureEnvelope, answer).reply.picture)
        if self.follower.is_behind and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + 0.2
            self._catching_up.send(messages.encode(GetPicture(request_id="catching-up")))

    def _hear(self, topic: bytes, body: bytes) -> None:
        if topic == picture.STATUS_TOPIC:
            self.pictures.append(msgspec.msgpack.decode(body, type=StatusPicture))
            self.follower.whole(self.pictures[-1])
        elif topic == deltas.DELTA_TOPIC:
            self.deltas.append(msgspec.msgpack.decode(body, type=Delta))
            self.follower.delta(self.deltas[-1])
        else:
            assert topic == deltas.BEAT_TOPIC
            self.beats.append(msgspec.msgpack.decode(body, type=Beat))
            self.follower.beat(self.beats[-1])

    def ask(self, payload: bytes, *, answering: bool = False) -> bytes:
        """The answer of the status process itself."""
        assert self._asking.send(payload)
        before = len(self.answers)
        self.until(lambda: len(self.answers) > before, answering=answering)
        return self.answers[-1]


OVERVIEW = Overview(journal_id="j", seq=1, at=0.0, paused_reason=None, counts={}, running=[], waiting=[],
                    waiting_reason="the queue is empty", generation=0, checkpoint="", step=0, services=[])
JOB = job()


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Watched]]:
    started: list[Watched] = []

    def begin(interval_seconds: float, **environment: str) -> Watched:
        started.append(Watched(home, interval_seconds, **environment))
        return started[-1]

    yield begin
    for watched in started:
        watched.close()


def log_events(home: Home) -> list[str]:
    return [orjson.loads(line)["event"] for line in (home.logs / "status.log").read_bytes().splitlines()]


def test_a_picture_that_cannot_be_written_is_published_all_the_same(home: Home,
                                                                    start: Callable[..., Watched]) -> None:
    home.status_file.mkdir()  # nothing can be renamed to it
    watched = start(0.05)
    watched.until(lambda: watched.shown is not None and any(
        alarm.code == "status_trouble" and str(home.status_file) in alarm.text for alarm in watched.shown.alarms),
        answering=True)
    assert log_events(home).count("picture_not_written") == 1
    assert "turn_failed" not in log_events(home)
    home.status_file.rmdir()
    watched.until(home.status_file.is_file, answering=True)
    assert watched.stop() == (0, "")
    assert log_events(home).count("picture_written_again") == 1
    assert msgspec.json.decode(home.status_file.read_bytes(), type=StatusPicture).journal_id == "j"


def test_it_ends_well_though_its_last_picture_cannot_be_written(home: Home,
                                                                start: Callable[..., Watched]) -> None:
    home.status_file.mkdir()
    watched = start(0.05)
    watched.until(lambda: watched.shown is not None)
    assert watched.shown is not None
    assert watched.shown.why.startswith("the broker has not been heard of")
    assert watched.stop() == (0, "")


def test_events_wake_it_to_ask_sooner_but_not_more_than_four_times_a_second(
        start: Callable[..., Watched]) -> None:
    watched = start(3600.0)
    watched.until(lambda: watched.questions >= 1, answering=True)
    watched.until(lambda: watched.questions >= 2, answering=True, events=True)
    began = time.monotonic()
    watched.until(lambda: watched.questions >= 7, answering=True, events=True)
    # Three of these five may come at once; the one behind them waits until the first one is a second old.
    assert time.monotonic() - began >= 1.0 - 0.1


def test_a_change_is_seen_though_no_question_is_due(start: Callable[..., Watched]) -> None:
    watched = start(3600.0)
    watched.until(lambda: watched.shown is not None and watched.shown.seq == 1, answering=True)
    watched.overview = msgspec.structs.replace(OVERVIEW, seq=2)
    watched.until(lambda: watched.questions >= 2, answering=True, events=True)
    watched.until(lambda: watched.shown is not None and watched.shown.seq == 2, answering=True)


def own_view(watched: Watched, session: str) -> ServiceView:
    """The status process as a broker that knows it would show it."""
    return ServiceView(name="status", session=session, pid=watched.process.pid, state=Lifecycle.RUNNING, detail="",
                       started_at=time.time(), age_seconds=0.1)


def test_it_is_in_its_picture_though_the_broker_has_not_heard_of_it_yet(start: Callable[..., Watched]) -> None:
    """As after a start of the broker: if it dies now, this picture is its last, and its pid tells that it has."""
    watched = start(0.05)
    other = msgspec.structs.replace(own_view(watched, "s2"), name="trainer")
    watched.overview = msgspec.structs.replace(OVERVIEW, services=[other])
    watched.until(lambda: watched.shown is not None and watched.shown.seq == 1, answering=True)
    assert watched.shown is not None
    found = next(service for service in watched.shown.services if service.name == "status")
    assert (found.pid, found.state) == (watched.process.pid, Lifecycle.RUNNING)


def test_changes_are_numbered_and_lead_to_the_whole(start: Callable[..., Watched]) -> None:
    watched = start(0.05)
    # One that was published: a picture that was asked for may come before the subscription is there.
    watched.until(lambda: bool(watched.pictures) and watched.pictures[-1].seq == 1, answering=True)
    for seq in range(2, 6):
        watched.overview = msgspec.structs.replace(OVERVIEW, seq=seq)
        watched.until(lambda seq=seq: watched.shown is not None and watched.shown.seq == seq, answering=True)
    assert not watched.follower.is_behind
    changed = [delta for delta in watched.deltas if "seq" in delta.changed]
    assert [delta.changed["seq"] for delta in changed[-4:]] == [2, 3, 4, 5]
    numbers = [delta.n for delta in watched.deltas]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    watched.until(lambda: bool(watched.beats) and watched.beats[-1].seq == 5, answering=True)
    assert watched.beats[-1].ages.broker is not None


def test_the_whole_picture_is_answered_to_who_asks(start: Callable[..., Watched]) -> None:
    watched = start(0.05)
    answer = messages.decode_as(PictureEnvelope, watched.ask(messages.encode(GetPicture(request_id="a1")),
                                                              answering=True))
    assert answer.request_id == "a1"
    watched.until(lambda: watched.shown is not None, answering=True)
    assert watched.shown is not None
    assert answer.reply.picture.session == watched.shown.session
    assert answer.reply.picture.why == "the trainer has not been heard of yet: supervisorctl status trainer"
    for nonsense in (b"", b"\x81", messages.encode(GetOverview(request_id="a2"))):
        refused = messages.decode_reply(watched.ask(nonsense))
        assert isinstance(refused.reply, Refused)
        assert refused.reply.code == "protocol"
    assert watched.ask(messages.encode(GetPicture(request_id="a3")))


def test_a_next_life_goes_on_counting_restarts(start: Callable[..., Watched]) -> None:
    first = start(0.05)
    for number in (0, 1):
        first.overview = msgspec.structs.replace(OVERVIEW, services=[own_view(first, f"s{number}")])
        first.until(lambda number=number: restarts(first) == (f"s{number}", number), answering=True)
    assert first.shown is not None
    session = first.shown.session
    assert first.stop() == (0, "")
    first.close()
    second = start(0.05)
    second.overview = msgspec.structs.replace(OVERVIEW, services=[own_view(second, "s2")])
    second.until(lambda: restarts(second) == ("s2", 2), answering=True)
    assert second.shown is not None
    assert second.shown.session != session


def test_who_rests_tells_the_broker_why(start: Callable[..., Watched]) -> None:
    watched = start(0.05, TRAINQ_SERVICES_STATUS="{enabled = false}")
    watched.until(lambda: watched.heard is not None and watched.heard.state is Lifecycle.PAUSED)
    assert watched.heard is not None
    assert watched.heard.cause is PauseCause.DISABLED


def test_a_next_life_tells_for_an_hour_of_who_hung(home: Home, start: Callable[..., Watched]) -> None:
    now = time.time()
    hung = [alarms.service_hung(name, f"{name} hangs; it is started again", now - ago)
            for name, ago in (("preparer", 600.0), ("watcher", 3700.0))]
    written = msgspec.structs.replace(fold(OVERVIEW), alarms=tuple(hung))
    home.status_file.write_bytes(msgspec.json.encode(written))
    watched = start(0.05)
    watched.until(lambda: watched.shown is not None and watched.shown.seq == 1, answering=True)
    assert watched.shown is not None
    assert [alarm for alarm in watched.shown.alarms if alarm.code == alarms.HUNG] == hung[:1]


def restarts(watched: Watched) -> tuple[str, int] | None:
    """The status process's session, and how often it was begun anew."""
    services = watched.shown.services if watched.shown is not None else ()
    return next(((service.session, service.restarts) for service in services if service.name == "status"), None)


def test_the_machine_is_in_the_picture(start: Callable[..., Watched]) -> None:
    watched = start(0.05)
    watched.until(lambda: watched.shown is not None and watched.shown.cpu is not None
                  and watched.shown.ages.gpu is not None, answering=True)
    shown = watched.shown
    assert shown is not None
    own = next(service for service in shown.services if service.name == "status")
    assert own.memory_bytes is not None
    assert own.memory_bytes > 10 << 20
    assert shown.ages.machine is not None
    assert bool(shown.gpu.devices) != bool(shown.gpu.reason)


def test_over_tcp_it_can_be_read_on_this_machine(start: Callable[..., Watched]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    watched = start(0.05, TRAINQ_STATUS_TCP_PORT=str(port))
    watched.until(lambda: watched.shown is not None, answering=True)
    (bound,) = {connection.laddr for connection in psutil.Process(watched.process.pid).net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN}
    assert (bound.ip, bound.port) == ("127.0.0.1", port)
    reader = zmq.Context()
    try:
        subscriber = reader.socket(zmq.SUB)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"heartbeat")
        subscriber.connect(f"tcp://127.0.0.1:{port}")
        watched.until(lambda: bool(subscriber.poll(0)), answering=True)
        topic, payload = subscriber.recv_multipart()
        assert (topic, msgspec.msgpack.decode(payload, type=Beat).v) == (b"heartbeat", 2)
    finally:
        reader.destroy(linger=0)


def test_a_port_that_is_taken_hinders_nothing_and_is_said(home: Home, start: Callable[..., Watched]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        watched = start(0.05, TRAINQ_STATUS_TCP_PORT=str(taken.getsockname()[1]))
        watched.until(lambda: watched.heard is not None and "[status] tcp_port" in watched.heard.detail
                      and watched.shown is not None, answering=True)
    assert log_events(home).count("port_not_bound") == 1
    assert "turn_failed" not in log_events(home)


@pytest.mark.slow  # it waits for 150 pictures
def test_subscribers_and_askers_that_never_read_cost_little(start: Callable[..., Watched]) -> None:
    big = [msgspec.structs.replace(JOB, id=f"train-{number}", number=number, name="x" * 900) for number in range(100)]
    watched = start(0.01)
    watched.overview = msgspec.structs.replace(OVERVIEW, waiting=big)
    watched.until(lambda: bool(watched.pictures), answering=True)
    process = psutil.Process(watched.process.pid)
    before = process.memory_info().rss
    stuck = zmq.Context()
    try:
        crowd = [stuck.socket(zmq.SUB) for _ in range(20)]
        for silent in crowd:
            silent.setsockopt(zmq.RCVHWM, 1)
            silent.setsockopt(zmq.SUBSCRIBE, b"")
            silent.connect(f"ipc://{watched.home.status_socket}")
        greedy = stuck.socket(zmq.DEALER)
        greedy.setsockopt(zmq.RCVHWM, 1)
        greedy.connect(f"ipc://{watched.home.picture_socket}")
        reached = len(watched.pictures) + 150
        for seq in itertools.count(2):
            watched.overview = msgspec.structs.replace(watched.overview, seq=seq)
            if seq % 2:
                greedy.send_multipart([b"", messages.encode(GetPicture(request_id="g"))], zmq.DONTWAIT)
            shown = len(watched.pictures)
            watched.until(lambda shown=shown: len(watched.pictures) > shown, answering=True)
            if len(watched.pictures) >= reached:
                break
        # 64 pictures and deltas of 140 KB, which all of them share, and the sockets' own buffers; not 20 times 150.
        assert process.memory_info().rss - before < 64 << 20
    finally:
        stuck.destroy(linger=0)
