"""People in threads of their own. A user submits by the client and by the inbox, says things twice, cancels.

What was acknowledged is written to ``receipts.jsonl``; what was not is sent again under the same id until it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import orjson
from blake3 import blake3

from trainq import files, ingest
from trainq.chaos import plan
from trainq.chaos.plan import Load, LoadKind
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, NotFoundError, TransitionError
from trainq.ids import new_request_id
from trainq.messages import AnyRequest, Cancel, Done, Receipt, RefusedError, Submit, SubmitItem, Submitted

_TRY_SECONDS = 3.0
# A cancel chooses among so many of the newest: older jobs have most likely ended.
_NEWEST = 3

Reply = TypeVar("Reply", bound=msgspec.Struct)


class Sent(NamedTuple):
    """A submit that was acknowledged; ``job`` is the one that its receipt names."""

    request: Submit
    content: bytes
    job: str


class _Step(Protocol):
    @property
    def pause_seconds(self) -> float: ...


Step = TypeVar("Step", bound=_Step)


class Person(threading.Thread):
    """Asks for things until told to stop; what is begun then is still brought to its answer.

    ``wrong`` lists what a person would complain about; ``fault`` is an exception that ended the thread.
    """

    def __init__(self, name: str, home: Home) -> None:
        super().__init__(name=name, daemon=True)
        self.home = home
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        self.wrong: list[str] = []
        self.fault: BaseException | None = None
        self.resent = 0

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping.set()

    def give_up(self) -> None:
        """Do not even wait for the answer to what is begun."""
        self._stopping.set()
        self._giving_up.set()

    def run(self) -> None:
        try:
            with BrokerClient(self.home) as broker:
                self.act(broker)
        except BaseException as error:
            self.fault = error

    def act(self, broker: BrokerClient) -> None:
        """Everything that this person does."""
        raise NotImplementedError

    def paced(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Each step when its time has come, until told to stop."""
        for step in steps:
            if self._stopping.wait(step.pause_seconds):
                return
            yield step

    def ask(self, broker: BrokerClient, request: AnyRequest, expect: type[Reply]) -> Reply | None:
        """The reply, however often it must be asked for; None when there is no use in it any more."""
        while not self._giving_up.is_set():
            try:
                return broker.call(request, expect, timeout_seconds=_TRY_SECONDS)
            except BrokerUnavailableError:
                self.resent += 1
        return None


class User(Person):
    """Does what the plan says."""

    def __init__(self, home: Home, seed: int, folder: Path) -> None:
        super().__init__("user", home)
        self._seed = seed
        self._folder = folder
        self._sent: list[Sent] = []
        self.dropped: set[str] = set()  # digests of what lay in the inbox
        self.bad: set[str] = set()  # digests of files with too many bad rows
        self.cancelled: set[str] = set()  # jobs whose cancel was asked for
        self.submits = 0

    def act(self, broker: BrokerClient) -> None:
        with (self._folder / "receipts.jsonl").open("ab") as receipts:
            for load in self.paced(plan.loads(self._seed)):
                for receipt, digest in self._do(broker, load):
                    receipts.write(orjson.dumps({"request_id": receipt.request_id, "digest": digest,
                                                 "job": receipt.job}) + b"\n")
                    receipts.flush()

    def _do(self, broker: BrokerClient, load: Load) -> list[tuple[Receipt, str]]:
        match load.kind:
            case LoadKind.SUBMIT | LoadKind.BAD_ROWS:
                content = plan.content(self._seed, load)
                if load.kind is LoadKind.BAD_ROWS:
                    self.bad.add(blake3(content).hexdigest())
                return self._submit(broker, load.name, content)
            case LoadKind.DROP:
                self._drop(load)
            case LoadKind.SAME_CONTENT if self._sent:
                return self._submit(broker, load.name, self._some(load).content)
            case LoadKind.SAME_REQUEST if self._sent:
                return self._repeat(broker, self._some(load))
            case LoadKind.CANCEL if self._sent:
                self._cancel(broker, self._sent[-_NEWEST:][int(load.which * len(self._sent[-_NEWEST:]))].job)
            case _:
                pass  # nothing was acknowledged yet that it could be done to
        return []

    def _some(self, load: Load) -> Sent:
        return self._sent[int(load.which * len(self._sent))]

    def _submit(self, broker: BrokerClient, name: str, content: bytes) -> list[tuple[Receipt, str]]:
        source = self._folder / "files" / name
        files.write_file(source, content)
        stored = ingest.store_file(self.home, source)
        item = SubmitItem(request_id=new_request_id(), name=name, digest=stored.digest, size_bytes=stored.size_bytes)
        request = Submit(request_id=new_request_id(), items=[item])
        reply = self.ask(broker, request, Submitted)
        if reply is None:
            return []
        receipt = reply.receipts[0]
        if receipt.error_code:
            self.wrong.append(f"{name} was refused: {receipt.error}")
            return []
        self.submits += 1
        self._sent.append(Sent(request, content, receipt.job))
        return [(receipt, stored.digest)]

    def _repeat(self, broker: BrokerClient, sent: Sent) -> list[tuple[Receipt, str]]:
        reply = self.ask(broker, sent.request, Submitted)
        if reply is None:
            return []
        receipt = reply.receipts[0]
        if receipt.job != sent.job:
            self.wrong.append(f"request {receipt.request_id} was {sent.job}, and then {receipt.job} {receipt.error}")
        return []

    def _drop(self, load: Load) -> None:
        # Written beside and renamed, so that the digest is known of what the watcher takes.
        content = plan.content(self._seed, load)
        files.write_file(self._folder / "files" / load.name, content)
        self.dropped.add(blake3(content).hexdigest())
        files.make_directory(self.home.inbox)
        files.move(self._folder / "files" / load.name, self.home.inbox / load.name)

    def _cancel(self, broker: BrokerClient, job: str) -> None:
        self.cancelled.add(job)
        try:
            self.ask(broker, Cancel(request_id=new_request_id(), job=job, reason="chaos"), Done)
        except NotFoundError as error:
            self.wrong.append(f"{job} was acknowledged, and a cancel says: {error}")
        except RefusedError as error:
            if error.refused_code != TransitionError.code:
                raise
            # It has ended, and says so.


def ask_patiently(broker: BrokerClient, request: AnyRequest, expect: type[Reply], seconds: float) -> Reply:
    """:meth:`BrokerClient.call` for a reading request, over the broker's absences.

    Raises:
        BrokerUnavailableError: it was not there for ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return broker.call(request, expect, timeout_seconds=_TRY_SECONDS)
        except BrokerUnavailableError:
            if time.monotonic() >= deadline:
                raise
