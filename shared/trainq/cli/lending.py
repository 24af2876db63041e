"""``trainq lend``: run a program while the trainer has given the GPU back, between two train jobs."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import subprocess
import time
from argparse import ArgumentParser, Namespace
from typing import TypeVar

import msgspec

from trainq import keeper
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.rendering import duration
from trainq.errors import BrokerUnavailableError, TrainqError, UsageError
from trainq.ids import new_request_id, new_session_id
from trainq.jobs import JobKind
from trainq.liveness import adopt_orphans, family
from trainq.messages import (
    Accepted,
    Cancel,
    Complete,
    Done,
    Fail,
    Heartbeat,
    HeartbeatReply,
    Leased,
    LeaseState,
    LendTask,
    Lifecycle,
    SubmitTask,
    TakeLease,
    TaskLease,
    TaskResult,
)

POLL_SECONDS = 0.5
BEAT_SECONDS = 1.0
_STOPS = (signal.SIGTSTP, signal.SIGTTIN)
_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *_STOPS)
_MAX_NAME = 200
_MARK = "TRAINQ_LENT"

Reply = TypeVar("Reply", bound=msgspec.Struct)


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", type=types.text, metavar="-- PROGRAM",
                        help="what to run, after two dashes, with its arguments")
    parser.add_argument("--limit", type=types.duration, default=None, metavar="TIME",
                        help="end it after so long, like 30m or 2h")


def _run(arguments: Namespace, context: Context) -> int:
    name = shlex.join(arguments.words)[:_MAX_NAME]
    with PatientClient(context.home, context.console) as broker:
        accepted = broker.ask(SubmitTask(request_id=new_request_id(), task=LendTask(program=name),
                                         cause="asked for by a person"), Accepted)
        lender = _Lender(accepted.job, broker, context)
        try:
            lease = lender.wait()
        except KeyboardInterrupt:
            broker.ask(Cancel(request_id=new_request_id(), job=accepted.job), Done)
            raise
        started = time.monotonic()
        try:
            code, why = lender.run(lease, arguments.words, arguments.limit)
        except OSError as error:
            lender.end(lease, Fail(request_id=new_request_id(), job=lease.job, token=lease.token,
                                   reason=f"{name} cannot be run: {error.strerror}"))
            raise UsageError(f"{arguments.words[0]} cannot be run: {error.strerror}") from error
        lender.end(lease, lender.report(lease, code, why, time.monotonic() - started))
    if context.console.json:
        context.console.emit({"job": lease.job, "exit_code": code, "reason": why})
    elif why:
        context.console.say(why)
    return 128 - code if code < 0 else code


class _Lender:
    """One program that waits for the GPU, and has it: the worker of its own job."""

    def __init__(self, job: str, broker: PatientClient, context: Context) -> None:
        self._job = job
        self._broker = broker
        self._console = context.console
        self._session = new_session_id()
        self._next_beat = 0.0
        # Why the program is to end, and when it is asked to if it has not ended by itself.
        self._why, self._end_at = "", math.inf
        self._kept: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def wait(self) -> TaskLease:
        """Until the GPU is free for it."""
        told = ""
        while True:
            self._beat(())
            leased = self._broker.ask(TakeLease(request_id=new_request_id(), worker=self._job, session=self._session,
                                                kinds=(JobKind.LEND,), job=self._job), Leased)
            if isinstance(leased.lease, TaskLease):
                return leased.lease
            if leased.reason != told:
                told = leased.reason
                self._console.say(printable(f"{self._job} waits: {told}"))
            time.sleep(POLL_SECONDS)

    def run(self, lease: TaskLease, words: list[str], limit_seconds: float | None) -> tuple[int, str]:
        """Run the program to its end; its exit code as subprocess has it, and why it was ended if it was.

        Raises:
            OSError: it cannot be run.
        """
        # What whoever has started this has it ignore (nohup, a script's background) is ignored by the program, too.
        heard = [number for number in _HEARD if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heard:
            signal.signal(number, lambda number, _: self._heard(number))
        # Who is stopped by what the program writes is not heard of, and the GPU is taken back.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        adopt_orphans()
        try:
            # It goes with this process, whatever ends that: nobody else would know that it has the GPU.
            kept, reader = keeper.start(words, {**os.environ, _MARK: lease.job})
            self._kept = kept
            self._watch(kept, lease, limit_seconds)
            ended = keeper.ending(reader)
            if isinstance(ended, OSError):
                raise ended
            if ended is not None:
                return ended, self._why
            # Its keeper was killed, or could not end it.
            how = "what ran it was killed" if kept.returncode else "it could not be ended"
            gone = keeper.kill_left(kept, f"{_MARK}={lease.job}")
            how = how if gone else f"{how}, and it may still have the GPU"
            return kept.returncode or 1, f"{self._why}; {how}" if self._why else how
        finally:
            for number in heard:
                signal.signal(number, signal.SIG_DFL if number in _STOPS else signal.default_int_handler)

    def _watch(self, kept: subprocess.Popen[bytes], lease: TaskLease, limit_seconds: float | None) -> None:
        limit_at = time.monotonic() + limit_seconds if limit_seconds is not None else math.inf
        leases = (LeaseState(job=lease.job, token=lease.token),)
        while kept.poll() is None:
            ordered = self._beat(leases)
            now = time.monotonic()
            if now >= limit_at:
                ordered = f"it was ended after {duration(limit_seconds or 0.0)} (--limit)"
            if (ordered and not self._why) or now >= self._end_at:
                self._why, self._end_at = self._why or ordered, math.inf
                kept.send_signal(signal.SIGTERM)
            keeper.reap(kept)  # an orphan of whoever became this process may have come to it
            with contextlib.suppress(subprocess.TimeoutExpired):
                kept.wait(POLL_SECONDS)

    def _heard(self, number: int) -> None:
        """A signal came for this process, and is for the program."""
        if number in _STOPS:
            self._heard_stop(number)
            return
        if self._kept is None or (number == signal.SIGINT and not self._why):
            # The terminal has told the program, too; it has its time to end.
            self._end_at = time.monotonic() + keeper.END_SECONDS
        else:
            self._kept.send_signal(signal.SIGUSR1 if number == signal.SIGINT else signal.SIGTERM)
        self._why = self._why or "interrupted"

    def _heard_stop(self, number: int) -> None:
        """The terminal has stopped the program, or is asked to once more: then it goes on."""
        if self._kept is not None and self._is_stopped and number == signal.SIGTSTP:
            for pid in family(self._kept.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGCONT)
            self._is_stopped = False
            return
        self._is_stopped = True
        how = "is stopped" if number == signal.SIGTSTP else "waits for the terminal (fg)"
        self._console.say(f"the program {how}, and has the GPU all the same: Ctrl-Z has it go on, Ctrl-C ends it")

    def report(self, lease: TaskLease, code: int, why: str, seconds: float) -> Complete | Fail:
        """What the broker is told of the end."""
        if code == 0 and not why:
            result = TaskResult(summary=f"it ran for {duration(seconds)}")
            return Complete(request_id=new_request_id(), job=lease.job, token=lease.token, result=result,
                            worker=self._job, session=self._session)
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
        return Fail(request_id=new_request_id(), job=lease.job, token=lease.token,
                    reason=f"{why}; {how}" if why else how)

    def end(self, lease: TaskLease, request: Complete | Fail) -> None:
        """Give the GPU back; a lease that is lost already needs no giving back."""
        expect: type[Leased | Done] = Leased if isinstance(request, Complete) else Done
        try:
            self._broker.ask(request, expect)
        except TrainqError as error:
            self._console.say(f"{lease.job}: {error}")

    def _beat(self, leases: tuple[LeaseState, ...]) -> str:
        """Say that the program is there, if that is due; why it is to end, if it is."""
        now = time.monotonic()
        if now < self._next_beat:
            return ""
        self._next_beat = now + BEAT_SECONDS
        beat = Heartbeat(request_id=new_request_id(), service=self._job, session=self._session, pid=os.getpid(),
                         state=Lifecycle.RUNNING, leases=leases)
        try:
            reply = self._broker.once(beat, HeartbeatReply)
        except BrokerUnavailableError:
            return ""  # its absence takes nobody's lease away
        if self._job in reply.lost:
            return "the GPU was taken back: the broker had not heard of it for too long"
        return "cancelled" if self._job in reply.cancel else ""


COMMANDS = {"lend": Command(_configure, _run)}
