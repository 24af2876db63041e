"""A broker's desk and a real maintenance worker, so that a life of theirs is a fork and not a start.

The worker is the service's own; only its way to the broker is another one: each request goes through the codec to a
real desk over a real journal, committed as the app does it. Both live in one process, and a kill takes both along; or
the worker is a child (:meth:`Workshop.beside`), and is killed alone. Besides the crash points of the program there are
three of these tests' own: :data:`POINTS`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

import msgspec

from tests.stories import Story
from trainq import crashpoints, files, messages
from trainq.client import BrokerClient
from trainq.errors import StorageFullError
from trainq.ids import new_request_id
from trainq.jobs import ENDED, JobState
from trainq.logs import null_log
from trainq.messages import (
    AnyReply,
    AnyRequest,
    EventView,
    JobDetail,
    JobView,
    ReplyEnvelope,
    ShowJob,
    SubmitTask,
    Task,
)
from trainq.service import Peer, Process, Worker
from trainq.service.work import AnyLease

Reply = TypeVar("Reply", bound=msgspec.Struct)

# A worker asks, and the broker has not heard it; the broker has done it, and the worker has not heard that; a worker
# says that it lives, which it does after each piece that it has copied.
POINTS = ("peer.asks", "peer.is_answered", "peer.beats")
# More than any task here takes: one that does not end would go on for ever.
_MOST_TURNS = 20
_SETTINGS = {"TRAINQ_MAINTENANCE_NICENESS": "0", "TRAINQ_MAINTENANCE_MIB_PER_SECOND": "0"}


class Workshop(Story):
    """A life of the broker, and of whoever works for it. The clock stands still, so that no lease is ever over."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder, **_SETTINGS, **environment)
        self.home = self.configuration.home
        self._processes: list[Process] = []
        self.desk.copier.sweep()
        # Without room for the record it lives all the same, as the app does.
        with contextlib.suppress(StorageFullError), self.journal.transaction():
            for event in self.desk.opening():
                self.journal.append(event, self.clock.wall())

    def id(self) -> str:
        return new_request_id()  # a story counts them, and this home has had other lives

    def answer(self, request: AnyRequest) -> AnyReply:
        reply = self.journal.write(lambda: self.desk.answer(request))
        self.desk.committed(self.desk.take_recorded())
        self.step()
        return reply

    def step(self) -> None:
        """What the app does between requests."""
        self.desk.copier.step()

    def beside(self, work: Callable[[], list[str]]) -> tuple[int, list[str]]:
        """Do it in a child whose requests this process answers, as :func:`in_a_fork`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def ask(request: AnyRequest) -> AnyReply:
            theirs.send(messages.encode(request))
            return messages.decode_reply(theirs.recv(messages.MAX_MESSAGE_BYTES)).reply

        def in_the_child() -> list[str]:
            ours.close()
            # The journal is its parent's.
            with mock.patch.multiple(self, answer=ask, step=lambda: None):
                return work()

        def serve() -> None:
            theirs.close()
            while payload := ours.recv(messages.MAX_MESSAGE_BYTES):
                request = messages.decode_request(payload)
                with contextlib.suppress(BrokenPipeError):  # it was killed while it waited
                    ours.send(messages.encode(ReplyEnvelope(request_id=request.request_id,
                                                            reply=self.answer(request))))
            ours.close()

        return in_a_fork(in_the_child, serve)

    def process(self, name: str) -> Process:
        """The signals stay those of whoever runs this."""
        with mock.patch.object(Process, "_catch_signals"):
            self._processes.append(Process(name, self.configuration, null_log(), self.clock))
        return self._processes[-1]

    def peer(self, process: Process) -> Peer:
        return _Peer(process, self)

    def worker(self, make: Callable[[Process], Worker[AnyLease]], name: str) -> Worker[AnyLease]:
        """A life of that service, from its start."""
        with mock.patch("trainq.service.worker.Peer", lambda process, topics: _Peer(process, self)):  # noqa: ARG005
            return make(self.process(name))

    def submit_task(self, task: Task) -> str:
        reply = self.answer(SubmitTask(request_id=self.id(), task=task, cause="a test"))
        assert isinstance(reply, messages.Accepted), reply
        return reply.job

    def work_until_ended(self, worker: Worker[AnyLease], job: str) -> JobState:
        """Let it work until that job has ended; what a turn raises is raised."""
        for _ in range(_MOST_TURNS):
            worker.turn()
            if (seen := self.look_at(job)).state in ENDED:
                return seen.state
        raise AssertionError(f"{job} does not end: it is {seen.state}, {seen.reason}")

    def look_at(self, job: str) -> JobView:
        """A job as the broker shows it."""
        reply = self.answer(ShowJob(request_id=self.id(), job=job))
        assert isinstance(reply, JobDetail), reply
        return reply.job

    def close(self) -> None:
        self.journal.close()
        for each in self._processes:
            for end in (each._signal_reader, each._signal_writer):
                end.close()


class _Client(BrokerClient):
    """To a desk in the same process."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._posted: list[AnyReply] = []

    def call(self, request: AnyRequest, expect: type[Reply], *, timeout_seconds: float = 0.0) -> Reply:  # noqa: ARG002
        crashpoints.reach("peer.asks")
        reply = self._shop.answer(messages.decode_request(messages.encode(request)))
        crashpoints.reach("peer.is_answered")
        return self._checked(reply, expect)

    def post(self, request: AnyRequest) -> None:
        self._posted.append(self._shop.answer(messages.decode_request(messages.encode(request))))

    def take_posted(self) -> list[AnyReply]:
        taken, self._posted = self._posted, []
        return taken

    def close(self) -> None:
        pass


class _Peer(Peer):
    """The service's own, without sockets: nothing wakes it, and it waits for nothing."""

    def __init__(self, process: Process, shop: Workshop) -> None:
        self.process = process
        self.client = _Client(shop)
        self._shop = shop
        self._next_beat = 0.0
        self._last_said: tuple[object, ...] = ()
        self._replies: list[AnyReply] = []
        self.lost: set[str] = set()
        self.cancelled: set[str] = set()
        self.kept: set[str] = set()
        self.told = messages.HeartbeatReply()

    def close(self) -> None:
        pass

    def beat(self, leases: tuple[messages.LeaseState, ...] = ()) -> None:
        crashpoints.reach("peer.beats")
        super().beat(leases)

    def wait(self, seconds: float) -> list[EventView]:  # noqa: ARG002
        self._shop.step()
        return []


def in_a_fork(work: Callable[[], list[str]], meanwhile: Callable[[], None] = lambda: None) -> tuple[int, list[str]]:
    """Do it in a child: its exit status (negative for a signal), and what it says is wrong.

    What it raises is wrong, too, and is on stderr whole. ``meanwhile`` is done here.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        wrong: list[str] = ["it ended without a word"]
        try:
            wrong = work()
        except BaseException as error:
            traceback.print_exc()
            wrong = [f"{type(error).__name__}: {error}"]
        finally:
            sys.stderr.flush()
            os.write(writer, json.dumps(wrong).encode()[:60000])
            os._exit(0)
    os.close(writer)
    meanwhile()
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, json.loads(said) if said else []


def left_over(*folders: Path) -> list[str]:
    """What a write that did not end has left behind below these folders."""
    return [f"{path.name} is left in {path.parent}" for folder in folders for path in folder.rglob("*")
            if path.name.startswith(files.TEMPORARY_PREFIX) or path.suffix == ".part"]
