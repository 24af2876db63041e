"""Which jobs a filter finds, and what is done to each of them: the same for the command line and HTTP."""

from __future__ import annotations

import fnmatch
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from trainq import orders
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, TrainqError, UsageError
from trainq.jobs import TASKS, JobKind, JobState
from trainq.messages import JobView, ListJobs
from trainq.orders import Outcome

# Of one order, unless it says otherwise.
CAP = 1000
# What may be cancelled and tried again; without a choice it is the first kind.
CANCEL_STATES = (JobState.QUEUED, JobState.HELD, JobState.RUNNING)
CANCEL_KINDS = (JobKind.TRAIN, *(kind for kind in JobKind if kind in TASKS))
RETRY_STATES = (JobState.QUARANTINED, JobState.CANCELLED)
RETRY_KINDS = (JobKind.TRAIN,)
RELEASE_STATES = (JobState.HELD,)
RELEASE_KINDS = (JobKind.TRAIN,)


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of these kinds and states; ``name`` is a pattern of the shell, ``older_than`` a time in seconds.

    ``failed``: only those that had a failed attempt, or were set aside. Of those that match, the oldest ``limit``.
    """

    kinds: tuple[JobKind, ...]
    states: tuple[JobState, ...]
    name: str | None = None
    failed: bool = False
    older_than: float | None = None
    limit: int = CAP


class Done(NamedTuple):
    """What became of one job: an outcome, or why it was refused."""

    job: str
    outcome: Outcome | None
    error: TrainqError | None


def matching(broker: BrokerClient, wanted: JobFilter) -> tuple[list[JobView], int]:
    """The oldest that the filter matches, as many as may be, in their order; and how many match."""
    before = None if wanted.older_than is None else time.time() - wanted.older_than
    found, there = deque[JobView](maxlen=wanted.limit), 0
    # Newest first, so that the oldest are those that stay in it.
    for job in orders.all_jobs(broker, ListJobs(request_id="", kinds=wanted.kinds, states=wanted.states,
                                                failed_only=wanted.failed)):
        if (before is None or job.submitted_at < before) \
                and (wanted.name is None or fnmatch.fnmatchcase(job.name, wanted.name)):
            found.append(job)
            there += 1
    return sorted(found, key=lambda job: job.submitted_at), there


def each(broker: BrokerClient, jobs: Mapping[str, JobState | None],
         act: Callable[[BrokerClient, str], Outcome]) -> Iterator[Done]:
    """Do it to each job; what is wrong with one is no other's fault.

    With a state a job is left alone that is in another one by now: a person has agreed to that, and to no other.

    Raises:
        BrokerUnavailableError: no answer; nothing is done to the rest.
    """
    for job, state in jobs.items():
        try:
            if state is not None and (now := orders.state_of(broker, job)) is not state:
                raise UsageError(f"{job} is {now.value} by now, and was {state.value} when it was chosen: left alone",
                                 mend="name it if it is meant all the same")
            yield Done(job, act(broker, job), None)
        except BrokerUnavailableError:
            raise
        except TrainqError as error:
            yield Done(job, None, error)
