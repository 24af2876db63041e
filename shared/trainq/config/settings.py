"""The sections of ``trainq.toml``: their keys, types, bounds and defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from trainq.config.gating import GateSettings
from trainq.config.learning import CurriculumSettings, DatagenSettings, EvaluationSettings, PromotionSettings
from trainq.config.section import Section
from trainq.config.timing import ScheduleSettings

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
# A mapping names, for each field that a format needs, the column that holds it: {"prompt": "question"}.
ColumnMap = dict[str, str]
Epochs = Annotated[int, Meta(ge=1, le=1000)]
Rows = Annotated[int, Meta(ge=1, le=65_536)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Steps = Annotated[int, Meta(ge=0, le=1_000_000)]
Decay = Annotated[float, Meta(ge=0, le=10)]
Norm = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Schedule = Literal["constant", "cosine", "linear", "wsd"]
Precision = Literal["fp32", "bf16", "fp16"]
# The fields that a mapping may name: those of the row formats in trainq.samples, which lies above this module.
KNOWN_FIELDS = ("messages", "conversations", "prompt", "completion", "instruction", "output", "input", "text")


class BrokerSettings(Section, frozen=True, kw_only=True):
    """[broker]: the journal's process.

    A waiting job gains a priority class for every ``ageing_jobs`` jobs that were started since its submit (0: never).
    Who asks for the GPU (``trainq lend``) lets ``gpu_wait_jobs`` train jobs go first.
    """

    lease_seconds: Seconds = 30.0
    heartbeat_seconds: Seconds = 5.0
    prepare_wait_seconds: Seconds = 60.0
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    ageing_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] = 20
    gpu_wait_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class WatcherSettings(Section, frozen=True, kw_only=True):
    """[watcher]: when a file in the inbox counts as settled, and how often the folder is swept without being told."""

    settle_seconds: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    sweep_seconds: Seconds = 10.0


# Between the 5 % for a weak shift of the data and the 25 % for a strong one of Ibrahim et al. (2024, arXiv:2403.08763).
REPLAY_FRACTION = 0.1


class FolderSettings(Section, frozen=True, kw_only=True):
    """[data.folders.NAME]: what is different for files under ``inbox/NAME/``."""

    map: ColumnMap = field(default_factory=dict)


class DataSettings(Section, frozen=True, kw_only=True):
    """[data]: how rows are read and judged. Frozen into each job when it is submitted.

    ``replay_fraction``: so many rows of earlier jobs, as a share of the file's, are trained with it. Where it is not
    set, :func:`load` makes it :data:`REPLAY_FRACTION`; jobs of before, which lack it, have none.
    """

    map: ColumnMap = field(default_factory=dict)
    max_bad_rows: Fraction = 0.01
    long_rows: Literal["drop", "truncate"] = "drop"
    held_out_fraction: Fraction = 0.0
    replay_fraction: Fraction = 0.0
    folders: dict[str, FolderSettings] = field(default_factory=dict)


class ModelSettings(Section, frozen=True, kw_only=True):
    """[model]: the model that learns. An empty path means the built-in small model, made from scratch."""

    path: str = ""


class LoraSettings(Section, frozen=True, kw_only=True):
    """[lora]: train an adapter on the model's weights, and not the weights themselves.

    ``rank`` 0 trains all weights. ``alpha`` and ``dropout`` are those of LoRA; ``target_modules`` the layers that get
    an adapter, named as ``peft`` names them (none: every linear layer but the output's). It is looked at when a model
    line begins and when a consolidation has merged the adapter: in between the line's adapter stays what it is.
    """

    rank: Annotated[int, Meta(ge=0, le=65_536)] = 0
    alpha: Annotated[int, Meta(ge=1, le=1_000_000)] = 32
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    target_modules: tuple[str, ...] = ()


class ConsolidationSettings(Section, frozen=True, kw_only=True):
    """[consolidation]: merging the adapter into the weights under it.

    It is begun when no file waits, or when it has waited ``overdue_hours``; then nothing is trained until it is over,
    for ``limit_seconds`` at most. The merged model is compared with weights and adapter on ``check_rows`` rows: no
    logit may differ by more than ``max_logit_delta``.
    """

    overdue_hours: Annotated[float, Meta(ge=0, le=87_600)] = 24.0
    limit_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 1800.0
    check_rows: Annotated[int, Meta(ge=1, le=10_000)] = 16
    max_logit_delta: Annotated[float, Meta(gt=0, le=1_000)] = 0.01


class TrainOverrides(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[train.folders.NAME], and what a submit wants: the settings of [train] that a job may have otherwise.

    What is unset is as [train] says. An unknown name is refused: to pass over it would train otherwise than was asked.
    ``threads`` is none of them: it is part of the fingerprint under which bits repeat, and a job that changed it would
    make the next one look computed on another machine. Nor are ``checkpoint_seconds``, ``checkpoint_steps`` and
    ``checkpoint_max_share``, which weigh the machine's time against the work that a crash may cost, and change no bit.
    """

    epochs: Epochs | UnsetType | None = UNSET
    batch_rows: Rows | UnsetType = UNSET
    micro_batch_rows: Rows | UnsetType = UNSET
    learning_rate: Rate | UnsetType = UNSET
    schedule: Schedule | UnsetType = UNSET
    warmup_steps: Steps | UnsetType = UNSET
    rewarm_steps: Steps | UnsetType = UNSET
    min_rate_fraction: Fraction | UnsetType = UNSET
    decay_fraction: Fraction | UnsetType = UNSET
    weight_decay: Decay | UnsetType = UNSET
    max_grad_norm: Norm | UnsetType = UNSET
    precision: Precision | UnsetType = UNSET
    gradient_checkpointing: bool | UnsetType = UNSET
    seed: Seed | UnsetType = UNSET


class TrainSettings(Section, frozen=True, kw_only=True):
    """[train]: how a job trains. Frozen into each job when it is submitted.

    ``batch_rows`` is the number of rows of one optimizer step; ``micro_batch_rows`` how many of them go through the
    model at once, their gradients accumulated (where it is not set, :func:`load` makes it at most ``batch_rows``).
    ``learning_rate`` is the highest that there is: it is reached after ``warmup_steps`` of the optimizer, and
    ``schedule``, ``rewarm_steps``, ``min_rate_fraction`` and ``decay_fraction`` say how it goes on inside each job
    (``trainq.ml.schedules``). Gradients are clipped to the norm ``max_grad_norm`` (0: never).

    ``precision`` is that of the forward and backward pass; weights, gradients and optimizer are float32 in all of them.
    ``gradient_checkpointing`` computes activations again in the backward pass, for memory. ``seed`` orders the rows of
    a job; that of the configuration is the model line's, too.

    ``threads`` 0 means one for each processor that this process may use. A checkpoint is published
    ``checkpoint_seconds`` after the last one, or after ``checkpoint_steps`` steps where that is set (0: by time alone),
    and at the end of each job. Inside of a job the next one waits until the last one's measured cost is at most
    ``checkpoint_max_share`` of the time since (1: it never waits for that). ``folders`` are the inbox folders whose
    files train otherwise.

    A frozen specification of before lacks what came later: each default is what was done then.
    """

    epochs: Epochs = 1
    batch_rows: Rows = 16
    micro_batch_rows: Rows = 16
    learning_rate: Rate = 3e-4
    schedule: Schedule = "constant"
    warmup_steps: Steps = 20
    rewarm_steps: Steps = 0
    min_rate_fraction: Fraction = 0.1
    decay_fraction: Fraction = 0.1
    weight_decay: Decay = 0.01
    max_grad_norm: Norm = 1.0
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    seed: Seed = 0
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    checkpoint_seconds: Seconds = 600.0
    checkpoint_steps: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    checkpoint_max_share: Annotated[float, Meta(gt=0, le=1)] = 0.05
    folders: dict[str, TrainOverrides] = field(default_factory=dict)


class GuardSettings(Section, frozen=True, kw_only=True):
    """[guard]: what is done when training goes wrong, by the numbers of its steps. Frozen into each job at its submit.

    A batch with a loss or gradient that is no finite number is left out. ``non_finite_in_a_row`` of them, or such a
    weight, take the line back to its newest generation; the same again in one job, or more than ``max_skipped_share``
    of its batches being such, is the file's fault (0: no batch is left out for anything). A file of which less
    than ``min_trained_share`` of the tokens are trained has a fault in its masks.

    The other rules look at the last ``window_steps`` steps whose loss was in its band, and hold once there are 16 (or
    a whole window). A gradient's norm above ``spike_factor`` times their median is noted. The loss leaves its band
    above ``band_factor`` times their median plus ``band_margin`` (nats per token): after ``band_steps`` such steps in a
    row the state is bad, which is marked, or with ``on_band = "fail"`` fails the attempt. A state is marked until
    ``settle_steps`` steps after the last one that was bad, or after a batch that was left out.
    """

    non_finite_in_a_row: Annotated[int, Meta(ge=2, le=1000)] = 3
    max_skipped_share: Fraction = 0.25
    min_trained_share: Fraction = 0.0001
    window_steps: Annotated[int, Meta(ge=4, le=10_000)] = 64
    spike_factor: Annotated[float, Meta(gt=1, le=1_000_000)] = 10.0
    band_factor: Annotated[float, Meta(ge=1, le=1_000_000)] = 2.0
    band_margin: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.5
    band_steps: Annotated[int, Meta(ge=1, le=1_000_000)] = 8
    settle_steps: Annotated[int, Meta(ge=0, le=1_000_000)] = 16
    on_band: Literal["mark", "fail"] = "mark"

    @classmethod
    def none(cls) -> GuardSettings:
        """Those of a job that was submitted before there were guards: a number that is not finite fails the attempt."""
        return cls(max_skipped_share=0.0, min_trained_share=0.0, spike_factor=1e6, band_factor=1e6, band_margin=1e6,
                   band_steps=1_000_000, settle_steps=0)


class TrainerSettings(Section, frozen=True, kw_only=True):
    """[trainer]: the agent's watch over its training process, and what it does on a machine that changed.

    A step may take ``hang_factor`` times the slowest recent one, at least ``hang_seconds``; loading the model
    ``start_seconds``. After that the process counts as hung: its stacks are logged and it is started again.
    ``on_fingerprint_change``: bits repeat only under the same torch build, device, instruction set and threads; where
    one of them has changed, ``continue`` records it and trains on, ``hold`` waits for a person. In ``quiet_hours``,
    like ``"22:00-07:00"`` in the time zone of the schedule, nothing is trained: what runs is saved, and goes on after
    them. With no job for ``idle_minutes`` the memory of the model is given back (0: never).

    With ``gpu = "required"`` nothing is trained on a machine that has none; ``auto`` takes what is there. No job is
    begun while other processes use more than ``foreign_mib`` MiB of the GPU (0: however much), and none is trained from
    ``max_celsius`` on, until it is some degrees cooler (0: however hot).
    """

    hang_factor: Annotated[float, Meta(ge=2, le=1000)] = 10.0
    hang_seconds: Seconds = 120.0
    start_seconds: Seconds = 600.0
    on_fingerprint_change: Literal["continue", "hold"] = "continue"
    quiet_hours: tuple[str, ...] = ()
    idle_minutes: Annotated[float, Meta(ge=0, le=100_000)] = 30.0
    gpu: Literal["auto", "required"] = "auto"
    foreign_mib: Annotated[int, Meta(ge=0, le=100_000_000)] = 1024
    max_celsius: Annotated[int, Meta(ge=0, le=200)] = 0


class StatusSettings(Section, frozen=True, kw_only=True):
    """[status]: how often the broker is asked, and at most the whole picture is published and written.

    With ``tcp_port`` the same is published on that port of 127.0.0.1, to be read by everybody on this machine (0: not).
    """

    interval_seconds: Seconds = 1.0
    tcp_port: Annotated[int, Meta(ge=0, le=65_535)] = 0


class WebSettings(Section, frozen=True, kw_only=True):
    """[web]: HTTP on 127.0.0.1. With ``port`` 0 it is any that is free; the status of the service says which."""

    port: Annotated[int, Meta(ge=0, le=65_535)] = 8770


class MaintenanceSettings(Section, frozen=True, kw_only=True):
    """[maintenance]: how politely tasks are done.

    ``max_workers`` tasks at once, of all kinds together; ``mib_per_second`` is the most that one reads and writes, 0
    for no limit; ``niceness`` is that of nice(1).
    """

    max_workers: Annotated[int, Meta(ge=1, le=64)] = 1
    mib_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 200.0
    niceness: Annotated[int, Meta(ge=0, le=19)] = 15


Keep = Annotated[int, Meta(ge=0, le=100_000)]
Gibibytes = Annotated[float, Meta(ge=0, le=1_000_000_000)]


class RetentionSettings(Section, frozen=True, kw_only=True):
    """[retention]: what is kept of the copies of the model. The rules are joined by OR; what none keeps may go.

    Of checkpoints the ``checkpoints_last`` newest generations stay, and the ``checkpoints_best`` with the smallest
    ``best_metric``, which is that of the files that they end with, and tells something where those are alike. Of
    snapshots the ``snapshots_best``, the ``snapshots_last`` newest, and the newest one of each of the last so many
    hours, days, weeks and months in which there were any. If all of the home
    takes more than ``budget_gib``, or less than ``min_free_gib`` are free on its disk (0: whatever it is), the trash is
    emptied early, and then goes what rules alone keep, the oldest first. What is removed lies in the trash for
    ``trash_hours``. A shard that no job needs any more goes after ``shard_days``, or for want of room; a file's content
    ``data_days`` after it was trained, once two proven generations hold it (0 days: never). Whatever the rules say,
    what training needs to go on stays, and what is pinned.
    """

    checkpoints_last: Keep = 5
    checkpoints_best: Keep = 0
    snapshots_last: Keep = 3
    snapshots_best: Keep = 0
    snapshots_hourly: Keep = 0
    snapshots_daily: Keep = 7
    snapshots_weekly: Keep = 4
    snapshots_monthly: Keep = 0
    best_metric: Literal["loss", "loss_mean"] = "loss_mean"
    budget_gib: Gibibytes = 0.0
    min_free_gib: Gibibytes = 0.0
    trash_hours: Annotated[float, Meta(ge=0, le=87_600)] = 24.0
    shard_days: Annotated[float, Meta(ge=0, le=36_500)] = 30.0
    data_days: Annotated[float, Meta(ge=0, le=36_500)] = 0.0


Percent = Annotated[float, Meta(ge=0, le=100)]


class DiskSettings(Section, frozen=True, kw_only=True):
    """[disk]: what is done when the home's disk gets full.

    Below ``warn_gib`` free, or ``warn_percent`` of all of it, the status warns; below ``hold_gib`` or ``hold_percent``
    nothing that needs room is begun. ``reserve_mib`` are laid by for the journal. 0 turns each of them off.
    """

    warn_gib: Gibibytes = 50.0
    hold_gib: Gibibytes = 10.0
    warn_percent: Percent = 0.0
    hold_percent: Percent = 0.0
    reserve_mib: Annotated[int, Meta(ge=0, le=1_000_000)] = 16


class ServiceSettings(Section, frozen=True, kw_only=True):
    """[services.NAME]: whether one service takes work, whatever the profile says.

    ``interval_seconds`` is read there, too: it is another name for the setting that says how often the service comes to
    its work (:data:`trainq.config.intervals.PLACES`), and is kept as that one.
    """

    enabled: bool | UnsetType = UNSET


class ServicesSettings(Section, frozen=True, kw_only=True):
    """[services]: which services take work. The others are started all the same, and stay PAUSED.

    ``profile`` is one of the named sets of :mod:`trainq.config.profiles`.
    """

    profile: Literal["minimal", "standard", "full", "coordinator", "training_node", "ephemeral",
                     "selfplay"] = "standard"
    watcher: ServiceSettings = ServiceSettings()
    preparer: ServiceSettings = ServiceSettings()
    trainer: ServiceSettings = ServiceSettings()
    snapshot: ServiceSettings = ServiceSettings()
    retention: ServiceSettings = ServiceSettings()
    consolidator: ServiceSettings = ServiceSettings()
    evaluator: ServiceSettings = ServiceSettings()
    datagen: ServiceSettings = ServiceSettings()
    status: ServiceSettings = ServiceSettings()
    web: ServiceSettings = ServiceSettings()


class LogSettings(Section, frozen=True, kw_only=True):
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section, frozen=True, kw_only=True):
    """All sections of ``trainq.toml``."""

    broker: BrokerSettings = BrokerSettings()
    watcher: WatcherSettings = WatcherSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    train: TrainSettings = TrainSettings()
    guard: GuardSettings = GuardSettings()
    gate: GateSettings = GateSettings()
    trainer: TrainerSettings = TrainerSettings()
    status: StatusSettings = StatusSettings()
    web: WebSettings = WebSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    retention: RetentionSettings = RetentionSettings()
    disk: DiskSettings = DiskSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    consolidation: ConsolidationSettings = ConsolidationSettings()
    datagen: DatagenSettings = DatagenSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    promotion: PromotionSettings = PromotionSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    services: ServicesSettings = ServicesSettings()
    log: LogSettings = LogSettings()
