"""A broker client for those who wait: it rides over the broker's absence and says so once."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

import msgspec

from trainq.cli.console import Console
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, BusyError
from trainq.messages import AnyRequest

Reply = TypeVar("Reply", bound=msgspec.Struct)

# Long enough for a busy disk, short enough that the absence is told while one still wonders.
_ANSWER_SECONDS = 3.0
_ONCE_SECONDS = 0.9


class PatientClient:
    """Asks until it is answered: what is asked again under its id, or with its token, is done once."""

    def __init__(self, home: Home, console: Console) -> None:
        self._broker = BrokerClient(home)
        self._console = console

    def __enter__(self) -> PatientClient:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None,
                 _traceback: TracebackType | None) -> None:
        self._broker.close()

    def once(self, request: AnyRequest, expect: type[Reply]) -> Reply:
        """The answer, if it comes soon.

        Raises:
            BrokerUnavailableError: it did not.
            TrainqError: the broker refused.
        """
        return self._broker.call(request, expect, timeout_seconds=_ONCE_SECONDS)

    def ask(self, request: AnyRequest, expect: type[Reply]) -> Reply:
        """The answer, whenever it comes.

        Raises:
            TrainqError: the broker refused.
        """
        absent = False
        while True:
            try:
                reply = self._broker.call(request, expect, timeout_seconds=_ANSWER_SECONDS)
            except (BrokerUnavailableError, BusyError) as error:
                if not absent:
                    what = "is busy" if isinstance(error, BusyError) else "does not answer"
                    self._console.say(f"the broker {what}; waiting until it answers")
                absent = True
                continue
            if absent:
                self._console.say("the broker is back")
            return reply
