"""What the broker knows of the line, and of a job."""

from __future__ import annotations

from collections.abc import Iterator

from trainq.client import BrokerClient
from trainq.errors import NotFoundError
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import Events, EventView, Forks, GetForks, JobDetail, JobView, ListJobs, Replay, ShowJob
from trainq.orders import all_jobs
from trainq.tracing.descending import Line

# A broker that is being restarted by supervisord is back well within this.
ANSWER_SECONDS = 3.0


def ask_line(broker: BrokerClient) -> Line:
    """The model line as the journal knows it."""
    found: list[tuple[int, int]] = []
    while (page := broker.call(GetForks(request_id=new_request_id(), after=found[-1][0] if found else 0), Forks,
                               timeout_seconds=ANSWER_SECONDS)).forks:
        found += [(fork.first, fork.source) for fork in page.forks]
    return Line(page.generation, page.checkpoint, page.newest, found)


def ask_events(broker: BrokerClient, job: str) -> Iterator[EventView]:
    """All events of a job, in order."""
    after = 0
    while page := broker.call(Replay(request_id=new_request_id(), after_seq=after, job=job), Events).events:
        yield from page
        after = page[-1].seq


def jobs_of(broker: BrokerClient, digest: str | None, job: str | None) -> list[JobView]:
    """The train jobs that carry the content, oldest first."""
    if job is not None:
        found = broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail).job
        if found.kind is not JobKind.TRAIN:
            raise NotFoundError(f"{job} carries no file to train", mend="trainq list shows those that do")
        return [found]
    jobs = list(all_jobs(broker, ListJobs(request_id="", digest=digest), ANSWER_SECONDS))[::-1]
    if not jobs:
        raise NotFoundError(f"no job has ever carried this content (BLAKE3 {digest})",
                            mend="one changed byte makes another content")
    return jobs
