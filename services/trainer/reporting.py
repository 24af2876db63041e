"""What the broker is told of what the training process says. Pure."""

from __future__ import annotations

from services.trainer import wire
from trainq.messages import Progress, TrainResult


def result(message: wire.Finished) -> TrainResult:
    """How the job ended."""
    return TrainResult(
        steps_done=message.steps_done, steps_planned=message.steps_planned, global_step=message.global_step,
        generation=message.generation, checkpoint=message.checkpoint, first_loss=message.first_loss,
        last_loss=message.last_loss, cut_from=message.cut_from, batches_left_out=message.batches_left_out)


def progress(message: wire.Progress | wire.Restoring) -> Progress:
    """How far the job is."""
    if isinstance(message, wire.Restoring):
        return Progress(step=message.done_bytes, steps=message.total_bytes, unit="bytes")
    left = message.steps_planned - message.job_step
    per_step = message.elapsed_seconds / message.steps_this_run if message.steps_this_run else None
    return Progress(
        step=message.job_step, steps=message.steps_planned, unit="steps", global_step=message.global_step,
        loss=message.loss, learning_rate=message.learning_rate, tokens_per_second=message.tokens_per_second,
        seconds_left=None if per_step is None else round(left * per_step, 1), grad_spikes=message.grad_spikes,
        out_of_band=message.out_of_band)
