"""``trainq watch``'s screen: from what is known to lines of a given width and height. Pure.

What matters most stands on top, so that a low terminal loses the rest: why, the running job, who comes next, the
services, the machine, what happened last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trainq.cli import wording
from trainq.cli.console import printable
from trainq.cli.measuring import sparkline
from trainq.cli.overviewing import alarm_words, disk_words, gpu_words, learning_figures, machine_words, until
from trainq.cli.pacing import progress_line
from trainq.cli.rendering import Column, columns_of, count, cut, duration, fold, moment, table
from trainq.cli.replaying import event_line
from trainq.figures import ABSENT, ServiceStatus
from trainq.jobs import JobKind
from trainq.messages import EventView, JobView, Lifecycle
from trainq.picture import StatusPicture

# A picture that is older than this is not what is: it is said in the colour of what is wrong.
STALE_SECONDS = 5.0
_WHY_LINES = 3
_ALARMS = 4
_QUEUE_LEAST, _QUEUE_MOST = 3, 12
_SPARK_MOST = 60
# From here on there is room for the learning rate.
_WIDE = 80
_STATES = {Lifecycle.RUNNING.value: "good", Lifecycle.PAUSED.value: "waiting", Lifecycle.INITIALIZING.value: "waiting",
           Lifecycle.SHUTTING_DOWN.value: "waiting", Lifecycle.STOPPED.value: "waiting", ABSENT: "faint"}

# A piece of a line, and its style (a name as the console's paint takes it, or none).
Piece = tuple[str, str]
Line = list[Piece]


class View(NamedTuple):
    """What there is to show. ``picture`` is None before the first.

    ``source`` says where it came from, ``age_seconds`` how old it is; ``losses`` are the running job's, ``events`` the
    newest ones in order, ``seconds_left`` the running job's estimate.
    """

    home: str
    picture: StatusPicture | None = None
    source: str = ""
    age_seconds: float = 0.0
    now: float = 0.0
    losses: Sequence[float] = ()
    events: Sequence[EventView] = ()
    seconds_left: float | None = None


def screen(view: View, width: int, height: int) -> list[Line]:
    """At most ``height`` lines of at most ``width`` columns."""
    lines = [_head(view, width)]
    picture = view.picture
    if picture is None:
        lines += [[], [("nothing is known yet: neither status nor broker answers, and there is no status.json", "bad")]]
    else:
        style = "busy" if picture.training else "waiting"
        lines += [[(text, style)] for text in fold(printable(picture.why), width)[:_WHY_LINES]]
        lines += _alarms(picture, width)
        lines += _running(view, picture, width)
        foot = [*_services(picture.services, width), *_machine(picture)]
        room = height - len(lines) - len(foot)
        queue = _queue(picture, width, min(_QUEUE_MOST, max(_QUEUE_LEAST, room // 2)))
        lines += [*queue, *foot, *_events(view.events, width, room - len(queue))]
    return [_cut(line, width) for line in lines[:height]]


def plain(line: Line) -> str:
    """A line without its colours."""
    return "".join(text for text, _ in line).rstrip()


def _head(view: View, width: int) -> Line:
    told = f"{view.source}, {duration(view.age_seconds)} old  " if view.picture else ""
    right = f"{told}{moment(view.now)}"
    name = cut(printable(f"trainq  {view.home}"), max(0, width - columns_of(right) - 2))
    gap = " " * max(2, width - columns_of(name) - columns_of(right))
    return [(name, "strong"), (gap + right, "bad" if view.age_seconds > STALE_SECONDS else "faint")]


def _alarms(picture: StatusPicture, width: int) -> list[Line]:
    return [[(text, "bad" if alarm.level == "bad" else "waiting")] for alarm in picture.alarms[:_ALARMS]
            for text in fold(printable(alarm_words(alarm)), width)[:_WHY_LINES]]


def _running(view: View, picture: StatusPicture, width: int) -> list[Line]:
    """The job that is trained with its losses, and whatever else is being done, a line each."""
    lines: list[Line] = []
    for job in (*picture.running, *picture.background_tasks.running):
        lines.append([(_job_line(job, view.seconds_left if job.kind is JobKind.TRAIN else None, width), "")])
        if job.kind is JobKind.TRAIN and view.losses:
            ends = f"loss {view.losses[0]:.3f} to {view.losses[-1]:.3f}  "
            bars = max(0, min(_SPARK_MOST, width - len(ends) - 2))
            lines.append([("  " + ends, "faint"), (sparkline(view.losses, bars) if bars else "", "busy")])
    return [[], *lines] if lines else []


def _job_line(job: JobView, seconds_left: float | None, width: int) -> str:
    label = printable(f"{job.id} {cut(job.name, max(10, width // 4))}")
    if job.progress is None or not job.progress.steps:
        return f"{label}  {printable(wording.standing(job)) or 'starting'}"
    rate = ""
    if job.progress.learning_rate is not None and width >= _WIDE:
        rate = f"  rate {job.progress.learning_rate:.3g}"
    left = seconds_left if seconds_left is not None else job.progress.seconds_left
    return progress_line(label, job.progress, left, max(20, width - len(rate))) + rate


def _queue(picture: StatusPicture, width: int, rows: int) -> list[Line]:
    counts = picture.counts.get(JobKind.TRAIN.value, {})
    told = ", ".join(f"{number} {state}" for state, number in counts.items()) or "none yet"
    tasks = picture.background_tasks.queue_size
    lines: list[Line] = [[], [(f"jobs: {told}" + (f"; {tasks} tasks wait" if tasks else ""), "strong")]]
    shown = picture.waiting[:max(0, rows - len(lines) - 1)]
    if shown:
        columns = [Column("next"), Column("name", flexible=True), Column("priority", spare=True),
                   Column("starts", flexible=True, spare=True), Column("", flexible=True)]
        cells = [[job.id, job.name, job.priority, until(job.starts_at, picture.at), wording.standing(job)]
                 for job in shown]
        title, *body = table(columns, cells, width)
        lines += [[(title, "faint")], *([(text, "")] for text in body)]
    return lines


def _services(services: Sequence[ServiceStatus], width: int) -> list[Line]:
    """Those that run in as few lines as they fit into; of the others also what they say."""
    lines: list[Line] = [[]]
    line: Line = []
    for service in services:
        running = service.state == Lifecycle.RUNNING
        text = service.name if running else f"{service.name} {service.state}"
        if line and sum(columns_of(piece) for piece, _ in line) + columns_of(text) + 2 > width:
            lines.append(line)
            line = []
        line.append((printable(text) + "  ", _STATES.get(service.state, "bad")))
    lines += [line] if line else []
    return lines + [[(f"  {printable(service.name)}: {printable(service.detail)}", "waiting")] for service in services
                    if service.detail]


def _machine(picture: StatusPicture) -> list[Line]:
    lines: list[Line] = []
    if picture.generation:
        saved = picture.ages.checkpoint
        ago = f", {duration(saved)} ago" if saved is not None else ""
        lines.append([(f"model {printable(picture.checkpoint)}, step {count(picture.step)}{ago}", "")])
    lines += [[(f"{name} {told}", "")] for name, told in learning_figures(picture) if told]
    if picture.disk is not None:
        lines.append([(f"disk {disk_words(picture.disk)}",
                       {"ok": "", "warn": "waiting"}.get(picture.disk.state, "bad"))])
    if picture.cpu is not None:
        lines.append([(f"machine {machine_words(picture.cpu)}", "")])
    if picture.gpu.devices:
        lines.append([(f"gpu {printable(gpu_words(picture.gpu))}", "")])
    return lines


def _events(events: Sequence[EventView], width: int, rows: int) -> list[Line]:
    if not events or rows < 3:
        return []
    return [[], *([(cut(event_line(event), width), "faint")] for event in events[-(rows - 1):])]


def _cut(line: Line, width: int) -> Line:
    kept: Line = []
    left = width
    for text, style in line:
        shown = cut(text, left)
        kept.append((shown, style))
        left -= columns_of(shown)
    return kept
