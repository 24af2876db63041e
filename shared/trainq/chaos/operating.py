"""An operator in a thread of its own: pauses, yields, drains, stops, resumes, asks for checkpoints, skips jobs.

By the broker and by files, in any order and at the worst moments. At the end everything is resumed.
"""

from __future__ import annotations

from trainq import files
from trainq.chaos import plan
from trainq.chaos.load import Person, ask_patiently
from trainq.chaos.plan import Order, OrderKind
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import NotFoundError, TransitionError, UsageError
from trainq.ids import new_request_id
from trainq.messages import (
    AnyRequest,
    AskCheckpoint,
    Cancel,
    Done,
    DrainQueue,
    GetOverview,
    Overview,
    PauseQueue,
    RefusedError,
    ResumeQueue,
    StopTrainer,
)

_ANSWER_SECONDS = 60.0
_FILES = {OrderKind.PAUSE_FILE: ".pause", OrderKind.STOP_FILE: ".stop"}


class Operator(Person):
    """Does what the plan says. ``skipped`` are the jobs that it has asked to be ended, ``orders`` how often what."""

    def __init__(self, home: Home, seed: int) -> None:
        super().__init__("operator", home)
        self._seed = seed
        self.skipped: set[str] = set()
        self.orders: dict[str, int] = {}

    def act(self, broker: BrokerClient) -> None:
        for step in self.paced(plan.orders(self._seed)):
            self.orders[step.kind.value] = self.orders.get(step.kind.value, 0) + 1
            self._do(broker, step)

    def resume_all(self, broker: BrokerClient) -> None:
        """Let everything go on, when nobody breaks anything any more."""
        self._remove_files()
        ask_patiently(broker, ResumeQueue(request_id=new_request_id()), Done, _ANSWER_SECONDS)

    def _do(self, broker: BrokerClient, step: Order) -> None:
        match step.kind:
            case OrderKind.PAUSE_FILE | OrderKind.STOP_FILE:
                files.make_directory(self.home.control)
                files.write_file(self.home.control / _FILES[step.kind], b"chaos\n")
            case OrderKind.SKIP_KEEP | OrderKind.SKIP_ROLLBACK:
                self._skip(broker, keep=step.kind is OrderKind.SKIP_KEEP)
            case OrderKind.RESUME:
                self._remove_files()
                self._tell(broker, ResumeQueue(request_id=new_request_id()))
            case OrderKind.YIELD:
                self._tell(broker, PauseQueue(request_id=new_request_id(), reason="chaos", seconds=step.seconds))
            case OrderKind.PAUSE:
                self._tell(broker, PauseQueue(request_id=new_request_id(), reason="chaos"))
            case OrderKind.DRAIN:
                self._tell(broker, DrainQueue(request_id=new_request_id(), reason="chaos"))
            case OrderKind.STOP:
                self._tell(broker, StopTrainer(request_id=new_request_id(), reason="chaos"))
            case OrderKind.CHECKPOINT:
                self._tell(broker, AskCheckpoint(request_id=new_request_id()))

    def _skip(self, broker: BrokerClient, *, keep: bool) -> None:
        overview = self.ask(broker, GetOverview(request_id=new_request_id()), Overview)
        running = overview.training if overview else None
        if running is None:
            return
        self.skipped.add(running.id)
        try:
            self.ask(broker, Cancel(request_id=new_request_id(), job=running.id, reason="chaos", keep=keep), Done)
        except NotFoundError as error:
            self.wrong.append(f"{running.id} is running, and a skip says: {error}")
        except RefusedError as error:
            if error.refused_code != TransitionError.code:
                raise
            # It has ended, and says so.

    def _tell(self, broker: BrokerClient, request: AnyRequest) -> None:
        try:
            self.ask(broker, request, Done)
        except UsageError:
            if not isinstance(request, StopTrainer):
                raise
            # No trainer was heard of since the broker's last life began.

    def _remove_files(self) -> None:
        for name in _FILES.values():
            if (self.home.control / name).exists():
                files.remove_file(self.home.control / name)
