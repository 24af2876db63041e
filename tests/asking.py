"""What tests ask the broker of a home, in their own process: whoever waits for something asks very often."""

from __future__ import annotations

from typing import Any

import msgspec

from trainq.client import BrokerClient
from trainq.config import Home
from trainq.ids import new_request_id
from trainq.messages import Events, EventView, GetOverview, JobList, JobView, ListJobs, Overview, Replay


class Asking:
    """Of the broker of ``home``; what has one can be asked this."""

    home: Home

    def overview(self, seconds: float = 60.0) -> Overview:
        """Waits so long for a broker that does not answer yet."""
        with BrokerClient(self.home) as client:
            return client.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=seconds)

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        """All train jobs, newest first."""
        found: list[JobView] = []
        with BrokerClient(self.home) as client:
            while page := client.call(ListJobs(
                    request_id=new_request_id(), limit=1000,
                    before_number=found[-1].number if found else None), JobList).jobs:
                found += page
        return [msgspec.to_builtins(job) for job in found if not states or job.state in states]

    def events(self, job: str = "") -> list[dict[str, Any]]:
        """All events, or all of one job, in order."""
        found: list[EventView] = []
        with BrokerClient(self.home) as client:
            while page := client.call(Replay(request_id=new_request_id(), after_seq=found[-1].seq if found else 0,
                                             job=job), Events).events:
                found += page
        return [msgspec.to_builtins(event) for event in found]
