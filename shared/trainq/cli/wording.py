"""Jobs in words: what people read about one in tables, progress lines and endings. Pure."""

from __future__ import annotations

from trainq.cli import rendering
from trainq.jobs import FAILED, JobState
from trainq.messages import JobView, Progress

STATE_STYLES = {
    JobState.SUCCEEDED.value: "good",
    JobState.RUNNING.value: "busy",
    JobState.QUEUED.value: "",
    JobState.HELD.value: "waiting",
    JobState.CANCELLED.value: "waiting",
    JobState.FAILED.value: "bad",
    JobState.QUARANTINED.value: "bad",
    JobState.REJECTED.value: "bad",
}


def standing(job: JobView) -> str:
    """What there is to say beyond the state: progress, result, or reason."""
    if job.state is JobState.RUNNING and job.cancel_reason is not None:
        return "ends at the next step: " + job.cancel_reason
    if job.state is JobState.RUNNING and job.progress is not None and job.progress.steps:
        return advance(job.progress)
    if job.state is JobState.SUCCEEDED:
        return outcome(job)
    if job.state is JobState.QUEUED and not job.reason and job.kind == "train":
        return "prepared" if job.prepared else "to be prepared"
    return job.reason


def advance(progress: Progress) -> str:
    """``step 12 of 64, loss 2.345``, or for other units the percentage."""
    if progress.unit != "steps":
        return f"{100 * progress.step // max(1, progress.steps)} % of the {progress.unit}"
    loss = f", loss {progress.loss:.3f}" if progress.loss is not None else ""
    spikes = f", {progress.grad_spikes} gradient spikes" if progress.grad_spikes else ""
    out = f", loss out of its band for {progress.out_of_band} steps" if progress.out_of_band else ""
    return f"step {progress.step} of {progress.steps}{loss}{spikes}{out}"


def outcome(job: JobView) -> str:
    """What a job that succeeded has done: ``64 steps, loss 5.123 to 2.001``."""
    result = job.result or {}
    steps = result.get("steps_done")
    if not isinstance(steps, int):
        return ""
    first, last = result.get("first_loss"), result.get("last_loss")
    losses = f", loss {first:.3f} to {last:.3f}" if isinstance(first, float) and isinstance(last, float) else ""
    cut = f" of {result['cut_from']}, then skipped" if result.get("cut_from") else ""
    left_out = f", {result['batches_left_out']} of them left out" if result.get("batches_left_out") else ""
    return f"{steps} step{'' if steps == 1 else 's'}{cut}{left_out}{losses}"


def took(job: JobView) -> str:
    """How long it ran, from its first start to its end."""
    if job.started_at is None or job.ended_at is None:
        return ""
    return rendering.duration(job.ended_at - job.started_at)


def tried_again(job: JobView) -> str:
    """When a job that failed is tried again, or by what command."""
    if job.state is JobState.QUEUED:
        return rendering.moment(job.retry_at) if job.retry_at else "next"
    if job.state is JobState.RUNNING:
        return "now"
    if job.state is JobState.REJECTED:
        return f"trainq export {job.number}"  # judging the same rows again changes nothing
    return f"trainq retry {job.number}" if job.state in FAILED else ""


def ending(job: JobView) -> list[str]:
    """The fields of a line that says how a job ended, or how it stands."""
    said = str((job.result or {}).get("summary", ""))  # of a task: what it did
    return [field for field in (job.id, job.state.value, job.name, said, standing(job), took(job)) if field]
