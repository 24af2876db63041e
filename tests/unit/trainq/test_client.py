"""Calls that survive a broker's absence: real sockets, a broker made of a thread."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainq import files, messages, transport
from trainq.client import MAX_ASIDE, BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, BusyError, NotFoundError, ProtocolError
from trainq.messages import AnyReply, AnyRequest, Done, Refused, ResumeQueue

REQUEST = ResumeQueue(request_id="request-1")


class FakeBroker:
    """Answers with ``answer``; None answers nothing. Keeps what it was asked."""

    def __init__(self, home: Home, answer: Callable[[AnyRequest], AnyReply | None]) -> None:
        self.asked: list[AnyRequest] = []
        self._context = transport.new_context()
        self._socket = transport.ReplySocket(self._context, home.request_socket)
        self._answer = answer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        poller = transport.Poller()
        poller.watch(self._socket)
        while not self._stop.is_set():
            poller.wait(0.02)
            for incoming in self._socket.drain(100):
                request = messages.decode_request(incoming.payload)
                self.asked.append(request)
                reply = self._answer(request)
                if reply is not None:
                    envelope = messages.ReplyEnvelope(request_id=request.request_id, reply=reply)
                    self._socket.reply(incoming, messages.encode(envelope))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        made = Home(Path(folder))
        files.make_directory(made.run)
        yield made


@pytest.fixture
def serve(home: Home) -> Iterator[Callable[[Callable[[AnyRequest], AnyReply | None]], FakeBroker]]:
    made: list[FakeBroker] = []

    def start(answer: Callable[[AnyRequest], AnyReply | None]) -> FakeBroker:
        made.append(FakeBroker(home, answer))
        return made[-1]

    yield start
    for broker in made:
        broker.close()


def test_an_answer_comes_back(home: Home, serve: Callable[..., FakeBroker]) -> None:
    serve(lambda _: Done(seq=5))
    with BrokerClient(home) as client:
        for _ in range(50):
            assert client.call(REQUEST, Done) == Done(seq=5)


def test_a_call_does_not_drop_the_replies_to_posted_requests(home: Home, serve: Callable[..., FakeBroker]) -> None:
    serve(lambda request: Done(seq=len(request.request_id)))
    with BrokerClient(home) as client:
        client.post(ResumeQueue(request_id="x"))
        client.call(REQUEST, Done)
        assert client.take_posted() == [Done(seq=1)]


def test_a_lost_reply_is_asked_for_again_under_the_same_id(home: Home, serve: Callable[..., FakeBroker]) -> None:
    answers = iter([None, Done(seq=1)])
    broker = serve(lambda _: next(answers))
    with BrokerClient(home) as client:
        assert client.call(REQUEST, Done) == Done(seq=1)
    assert broker.asked == [REQUEST, REQUEST]


def test_late_replies_to_calls_that_were_given_up_never_hide_the_one_that_is_awaited(
        home: Home, serve: Callable[..., FakeBroker]) -> None:
    with BrokerClient(home) as client:
        for number in range(MAX_ASIDE + 20):
            client.post(ResumeQueue(request_id=f"given-up-{number}"))
        serve(lambda request: Done(seq=len(request.request_id)))
        assert client.call(REQUEST, Done) == Done(seq=len(REQUEST.request_id))
        assert len(client.take_posted()) <= MAX_ASIDE


def test_nobody_there_is_an_error_that_says_so(home: Home) -> None:
    with BrokerClient(home) as client, pytest.raises(BrokerUnavailableError, match="again"):
        client.call(REQUEST, Done, timeout_seconds=0.2)


def test_a_broker_that_comes_late_is_found(home: Home, serve: Callable[..., FakeBroker]) -> None:
    with BrokerClient(home) as client:
        with pytest.raises(BrokerUnavailableError):
            client.call(REQUEST, Done, timeout_seconds=0.1)
        serve(lambda _: Done(seq=1))
        assert client.call(REQUEST, Done) == Done(seq=1)


def test_a_refusal_is_its_error(home: Home, serve: Callable[..., FakeBroker]) -> None:
    serve(lambda _: Refused(code="not_found", message="no such job"))
    with BrokerClient(home) as client, pytest.raises(NotFoundError, match="no such job"):
        client.call(REQUEST, Done)


def test_an_answer_of_another_kind_is_the_brokers_mistake(home: Home, serve: Callable[..., FakeBroker]) -> None:
    serve(lambda _: messages.HeartbeatReply())
    with BrokerClient(home) as client, pytest.raises(ProtocolError):
        client.call(REQUEST, Done)


def test_a_busy_broker_is_asked_again(home: Home, serve: Callable[..., FakeBroker]) -> None:
    answers = iter([Refused(code="busy", message="too much"), Done(seq=1)])
    broker = serve(lambda _: next(answers))
    with BrokerClient(home) as client:
        assert client.call(REQUEST, Done) == Done(seq=1)
    assert broker.asked == [REQUEST, REQUEST]


def test_one_that_stays_busy_is_an_error(home: Home, serve: Callable[..., FakeBroker]) -> None:
    serve(lambda _: Refused(code="busy", message="too much"))
    with BrokerClient(home) as client, pytest.raises(BusyError, match="too much"):
        client.call(REQUEST, Done, timeout_seconds=0.2)
