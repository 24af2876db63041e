"""Metric families (https://prometheus.io/docs/practices/naming/) from the status picture and from what was counted.

Pure. Names begin with ``trainq_``, units are base units and stand in the name, counters end in ``_total``. No label
names a job, a file or anything else that grows: each has the few values of an enum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from services.web.stepreading import Steps
from services.web.tallying import Histogram, Tally
from trainq import __version__, alarms
from trainq.gpu import Device, Devices
from trainq.jobs import OF_ALL, JobKind, JobState, is_of_files
from trainq.messages import CheckpointScores, JobView, LearningFigures, Lifecycle, Queue
from trainq.picture import ABSENT, DEAD, SILENT, ServiceStatus, StatusPicture

BEYOND = "beyond"
# The held-out rows of a file are a suite of its own: they come and go with the files, and are in no label. Those of the
# newest files together are one (services/evaluator/fixed.py), whatever its name says besides.
_OF_ALL_FILES = OF_ALL.rstrip("-")
# A process that says one of these of itself, and is heard of, is there.
_UP = frozenset(state.value for state in Lifecycle) - {Lifecycle.STOPPED.value}
_STATES = (*(state.value for state in Lifecycle), DEAD, SILENT, ABSENT)


def gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    """One figure without labels; nothing for one that is not known."""
    if value is not None:
        yield GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
    """A figure for each combination of label values."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    yield family


def counter(name: str, text: str, value: float) -> Iterator[Metric]:
    """A sum without labels."""
    yield CounterMetricFamily(name, text, value=value)


def counters(name: str, text: str, labels: tuple[str, ...],
             values: Mapping[tuple[str, ...], float]) -> Iterator[Metric]:
    """A sum for each combination of label values."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    yield family


def histograms(name: str, text: str, labels: tuple[str, ...],
               values: Mapping[tuple[str, ...], Histogram]) -> Iterator[Metric]:
    """A distribution for each combination of label values."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, histogram in values.items():
        family.add_metric(key, _buckets(histogram), histogram.sum)
    yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as the format wants them."""
    below, found = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += count
        found.append(("+Inf" if bound == float("inf") else repr(bound), float(below)))
    return found


def of_picture(picture: StatusPicture, now: float) -> Iterator[Metric]:
    """What the picture says. ``now``: wall seconds since 1970; ages grow since the picture was made."""
    since = max(0.0, now - picture.at)
    yield from gauges("trainq_build_info", "Always 1; the version is the label's", ("version",), {(__version__,): 1})
    yield from gauge("trainq_status_age_seconds", "Age of the status picture that most figures come from", since)
    yield from gauge("trainq_broker_age_seconds", "How long ago the broker's figures were heard",
                     None if picture.broker_age_seconds is None else picture.broker_age_seconds + since)
    ages = {("machine",): picture.ages.machine, ("gpu",): picture.ages.gpu, ("copies",): picture.ages.copies}
    yield from gauges("trainq_figures_age_seconds", "Age of the figures of the machine, of the GPUs, and of copies",
                      ("of",), {key: age + since for key, age in ages.items() if age is not None})
    yield from gauge("trainq_training", "1 while a job is being trained", picture.training)
    yield from gauges("trainq_queue_stopped", "1 while an order or a setting keeps jobs from being trained",
                      ("by",), {("pause",): bool(picture.pause), ("drain",): bool(picture.drain),
                                ("stop",): bool(picture.stop), ("setting",): _is_unwanted(picture.services)})
    yield from _jobs(picture.counts)
    yield from _model(picture)
    yield from _disk(picture)
    yield from _services(picture.services, since)
    yield from _machine(picture)
    yield from _gpus(picture.gpu)
    yield from _copies(picture)
    yield from _learning(picture.learning)
    running = next((job for job in picture.running if job.kind is JobKind.TRAIN), None)
    if picture.training and running is not None:
        yield from _progress(running)


def _is_unwanted(services: Iterable[ServiceStatus]) -> bool:
    """Whether the trainer rests as somebody wants it: a file in control/, the configuration, a loan of the GPU."""
    return any(each.name == "trainer" and alarms.is_wanted(each) for each in services)


def _jobs(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    # All states of train jobs, so that a rule over one of them has something to look at from the start.
    values: dict[tuple[str, ...], float] = {(JobKind.TRAIN.value, state.value): 0.0 for state in JobState}
    values |= {(kind, state): number for kind, states in counts.items() for state, number in states.items()}
    yield from gauges("trainq_jobs", "Jobs of all time that are in this state now", ("kind", "state"), values)


def _model(picture: StatusPicture) -> Iterator[Metric]:
    yield from gauge("trainq_model_generation", "Newest generation of the model line", picture.generation)
    yield from gauge("trainq_model_steps", "Optimizer steps in the newest generation", picture.step)
    yield from gauge("trainq_model_marked", "1 while the newest generation is marked as doubtful", bool(picture.marks))


def _progress(job: JobView) -> Iterator[Metric]:
    if (progress := job.progress) is not None:
        yield from gauge("trainq_running_job_steps", "Steps that the job which is trained has", progress.steps)
        yield from gauge("trainq_running_job_done_steps", "Steps of it that are done", progress.step)
        yield from gauge("trainq_training_loss", "Loss of the last step, nats per token", progress.loss)
        yield from gauge("trainq_training_learning_rate", "Learning rate of the last step", progress.learning_rate)
        yield from gauge("trainq_training_tokens_per_second", "Speed of the job which is trained, as it measures it",
                         progress.tokens_per_second)


def _disk(picture: StatusPicture) -> Iterator[Metric]:
    if (disk := picture.disk) is not None:
        yield from gauge("trainq_disk_free_bytes", "Free on the home's disk", disk.free_bytes)
        yield from gauge("trainq_disk_size_bytes", "Size of the home's disk", disk.total_bytes)
        yield from gauge("trainq_disk_warn_below_bytes", "[disk] below so much free the status warns",
                         disk.warn_below_bytes)
        yield from gauge("trainq_disk_hold_below_bytes", "[disk] below so much free nothing that needs room is begun",
                         disk.hold_below_bytes)
        yield from gauge("trainq_disk_full_in_seconds", "When the disk is full at the pace of the last hours; "
                         "absent: not in sight",
                         None if disk.full_in_hours is None else disk.full_in_hours * 3600)


def _services(services: Iterable[ServiceStatus], since: float) -> Iterator[Metric]:
    services = list(services)
    yield from gauges("trainq_service_up", "1 if the process lives and is heard of", ("service",),
                      {(each.name,): each.state in _UP for each in services})
    yield from gauges("trainq_service_state", "1 for the state that the service is in, 0 for the others",
                      ("service", "state"),
                      {(each.name, state): each.state == state for each in services for state in _STATES})
    yield from gauges("trainq_service_heartbeat_age_seconds", "How long ago the service was last heard of",
                      ("service",), {(each.name,): each.age_seconds + since for each in services
                                     if each.age_seconds is not None})
    yield from counters("trainq_service_restarts", "New lives of the service that were seen since the home was made",
                        ("service",), {(each.name,): each.restarts for each in services})
    yield from gauges("trainq_service_memory_bytes", "Resident memory of the service and all its children",
                      ("service",), {(each.name,): each.memory_bytes for each in services
                                     if each.memory_bytes is not None})
    yield from gauges("trainq_service_uptime_seconds", "How long the process has lived", ("service",),
                      {(each.name,): each.uptime_seconds + since for each in services
                       if each.uptime_seconds is not None})


def _machine(picture: StatusPicture) -> Iterator[Metric]:
    if (cpu := picture.cpu) is not None:
        yield from gauge("trainq_cpu_utilization_ratio", "Of all processors of the machine, 0 to 1", cpu.percent / 100)
        yield from gauge("trainq_load_average", "Load of the machine over one minute", cpu.load[0])
        yield from gauge("trainq_memory_available_bytes", "Memory that programs may still take",
                         cpu.memory_available_bytes)
        yield from gauge("trainq_memory_size_bytes", "Memory of the machine", cpu.memory_total_bytes)


def _gpus(gpus: Devices) -> Iterator[Metric]:
    yield from gauge("trainq_gpu_trouble", "1 if there should be a GPU and it cannot be used", gpus.trouble)
    figures: tuple[tuple[str, str, Callable[[Device], float | None]], ...] = (
        ("trainq_gpu_utilization_ratio", "Time in which the GPU computed, 0 to 1",
         lambda gpu: None if gpu.utilization_percent is None else gpu.utilization_percent / 100),
        ("trainq_gpu_memory_used_bytes", "Memory of the GPU in use, by whomever", lambda gpu: gpu.memory_used_bytes),
        ("trainq_gpu_memory_size_bytes", "Memory of the GPU", lambda gpu: gpu.memory_total_bytes),
        ("trainq_gpu_temperature_celsius", "Temperature of the GPU's chip", lambda gpu: gpu.temperature_celsius),
        ("trainq_gpu_power_watts", "What the GPU takes now", lambda gpu: gpu.power_watts),
        ("trainq_gpu_power_limit_watts", "The most that the GPU may take", lambda gpu: gpu.power_limit_watts))
    for name, text, figure in figures:
        values: dict[tuple[str, ...], float] = {(str(gpu.index),): value for gpu in gpus.devices
                                                if (value := figure(gpu)) is not None}
        yield from gauges(name, text, ("gpu",), values)


def _copies(picture: StatusPicture) -> Iterator[Metric]:
    newest = max((copy.at for copy in picture.snapshots), default=None)
    yield from gauge("trainq_snapshot_newest_timestamp_seconds", "When the newest snapshot was taken", newest)
    published = max((copy.at for copy in picture.generations), default=None)
    yield from gauge("trainq_checkpoint_newest_timestamp_seconds", "When the newest generation was published",
                     published)
    alarms: dict[tuple[str, ...], float] = {}
    for alarm in picture.alarms:
        key = (alarm.code, alarm.level)
        alarms[key] = alarms.get(key, 0.0) + 1
    yield from gauges("trainq_alarms", "Alarms of the status picture that stand, by code", ("code", "level"), alarms)


def _learning(learning: LearningFigures) -> Iterator[Metric]:
    """What the model can do: scores of the newest scored checkpoint and of the champion, and the levels."""
    if (champion := learning.champion) is not None:
        yield from gauge("trainq_champion_generation", "Generation that is champion",
                         float(champion.checkpoint[1:].partition("-")[0]))
        yield from gauge("trainq_champion_since_timestamp_seconds", "Since when it is", champion.at)
    yield from gauge("trainq_evaluation_newest_timestamp_seconds", "When a checkpoint was last scored or judged",
                     learning.evaluated_at)
    of = [(name, found) for name, found in (("newest", learning.newest), ("champion", learning.of_champion)) if found]
    for kind, family, text in (("loss", "trainq_suite_loss", "Loss on the rows of a suite, nats per token"),
                               ("generate", "trainq_suite_score_ratio", "Right answers to a suite, 0 to 1")):
        values: dict[tuple[str, ...], float] = {
            (suite, name): mean for name, found in of for suite, mean in _means(found, kind)}
        if values:
            yield from gauges(family, text, ("suite", "of"), values)
    yield from gauges("trainq_generator_level", "How hard what the generator makes is, from 1", ("generator",),
                      {(each.generator,): each.level for each in learning.levels})


def _means(found: CheckpointScores, kind: str) -> Iterator[tuple[str, float]]:
    for score in found.scores:
        of_all = score.suite.startswith(OF_ALL)
        if score.kind == kind and (of_all or not is_of_files(score.suite)):
            yield _OF_ALL_FILES if of_all else score.suite, score.mean


def of_queue(queue: Queue, now: float) -> Iterator[Metric]:
    """Who waits. ``now``: wall seconds since 1970."""
    waiting: dict[tuple[str, ...], float] = {(each.priority,): each.jobs for each in queue.classes}
    if queue.beyond:
        waiting[(BEYOND,)] = queue.beyond
    yield from gauges("trainq_waiting_jobs", "Files that wait, by priority among the oldest 10000; the others are "
                      "beyond", ("priority",), waiting)
    yield from gauges("trainq_waiting_oldest_age_seconds", "How long the oldest waiting file of a priority has waited",
                      ("priority",), {(each.priority,): max(0.0, now - each.oldest_at) for each in queue.classes})


def of_tally(tally: Tally) -> Iterator[Metric]:
    """What the journal has said since this process began to count."""
    yield from counters("trainq_jobs_submitted", "Files accepted", ("origin",), _single(tally.submitted))
    yield from counters("trainq_jobs_ended", "Jobs that ended", ("kind", "state"),
                        {(kind, state): number for (kind, state), number in tally.ended.items()})
    yield from histograms("trainq_job_seconds", "How long a job was at work until it ended, all its leases together",
                          ("kind",), {(kind,): found for kind, found in tally.job_seconds.items()})
    yield from counters("trainq_attempts_failed", "Attempts that failed", ("kind",), _single(tally.failed_attempts))
    yield from counters("trainq_workers_lost", "Leases whose worker was lost", ("kind",), _single(tally.lost_workers))
    yield from counters("trainq_rows_judged", "Rows that were judged, by what became of them", ("verdict",),
                        _single(tally.rows))
    yield from counter("trainq_files_refused", "Files of the inbox that could not be accepted at all",
                       tally.refused_files)
    yield from counters("trainq_queue_holds", "How often the queue was held, by whose fault it was", ("cause",),
                        _single(tally.holds))
    yield from counters("trainq_effects_decided", "Batches left out, micro-batches made smaller, jobs cut",
                        ("kind",), _single(tally.effects))
    yield from counter("trainq_checkpoints_published", "Generations published", tally.checkpoints)
    yield from counter("trainq_checkpoint_bytes", "Bytes of the generations published", tally.checkpoint_bytes)
    yield from histograms("trainq_checkpoint_stall_seconds", "How long training stood still for a checkpoint", (),
                          {(): tally.checkpoint_stall_seconds})
    yield from histograms("trainq_checkpoint_write_seconds", "How long the disk took for a checkpoint", (),
                          {(): tally.checkpoint_write_seconds})
    yield from counter("trainq_checkpoints_damaged", "Generations that did not verify", tally.damaged_checkpoints)
    yield from counters("trainq_retention_removals", "Copies moved to the trash", ("store",), _single(tally.removals))
    yield from counters("trainq_retention_removed_bytes", "Bytes of the copies moved to the trash", ("store",),
                        _single(tally.removed_bytes))
    yield from counter("trainq_retention_freed_bytes", "Bytes deleted for good by retention", tally.freed_bytes)


def of_learning(tally: Tally) -> Iterator[Metric]:
    """The same, of what makes the model better."""
    yield from counters("trainq_champion_moves", "How often the champion has moved, by how", ("how",),
                        _single(tally.champion_moves))
    yield from counters("trainq_checkpoints_judged", "Checkpoints that were judged beside the champion, by what came "
                        "of it", ("outcome",), _single(tally.judged))
    yield from counter("trainq_checkpoints_regressed", "Those of them that were significantly worse", tally.regressions)
    yield from counters("trainq_level_moves", "How often a generator's level has moved", ("generator", "direction"),
                        {(generator, direction): n for (generator, direction), n in tally.level_moves.items()})
    yield from counters("trainq_generated_files", "Files that were made", ("generator",),
                        _single(tally.generated_files))
    yield from counters("trainq_generated_rows", "Rows of the files that were made", ("generator",),
                        _single(tally.generated_rows))


def of_steps(steps: Steps) -> Iterator[Metric]:
    """What the steps' histories have said since this process began to count."""
    yield from counter("trainq_steps", "Optimizer steps; one that is done again counts once", steps.steps)
    yield from histograms("trainq_step_seconds", "Duration of an optimizer step", (), {(): steps.seconds})
    yield from counter("trainq_rows_trained", "Rows that went through the model", steps.rows)
    yield from counter("trainq_tokens", "Tokens that went through the model, without padding", steps.tokens)
    yield from counter("trainq_tokens_trained", "Those of them that were trained", steps.trained_tokens)
    yield from counter("trainq_steps_skipped", "Steps without effect, because gradients overflowed in fp16",
                       steps.skipped)
    yield from counter("trainq_gradient_spikes", "Steps with a gradient far above those before", steps.spikes)


def _single(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(key,): value for key, value in values.items()}
