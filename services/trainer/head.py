"""What the agent knows of the head of the model line, and how it tells the broker of it."""

from __future__ import annotations

import msgspec

from services.trainer import wire
from trainq.ids import new_request_id
from trainq.messages import Hello
from trainq.service import Process


def hello(process: Process, ready: wire.Ready) -> Hello:
    """What the broker is told of the head that the training process has."""
    return Hello(
        request_id=new_request_id(), worker=process.name, session=process.session, generation=ready.generation,
        name=ready.head, step=ready.step, reason=ready.reason, begun=ready.begun, journal_seq=ready.journal_seq,
        job=ready.job, job_step=ready.job_step, steps_planned=ready.steps_planned, done=ready.job_done,
        made_by=ready.made_by, restored_from=ready.restored_from, damaged=tuple(ready.damaged), effects=ready.effects)


def after(head: wire.Ready, published: wire.Published) -> wire.Ready:
    """What the training process would say of itself after this publication."""
    return msgspec.structs.replace(
        head, head=published.name, generation=published.generation, step=published.step, reason=published.reason,
        job=published.job, job_step=published.job_step, job_done=published.done, made_by="", restored_from=0,
        steps_planned=published.job_step if published.done else 0, size_bytes=published.size_bytes,
        marks=published.marks)
