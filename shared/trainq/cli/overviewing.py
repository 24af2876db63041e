"""``trainq status`` and ``trainq why``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trainq.cli import picturing, wording
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, count, duration, facts, fold, size, table
from trainq.figures import ABSENT, DEAD, SILENT, Alarm, Cpu, ServiceStatus, Span
from trainq.gpu import Device, Devices
from trainq.messages import DiskView, Lifecycle
from trainq.picture import StatusPicture

WAITING_SHOWN = 10

_SERVICE_STYLES = {Lifecycle.RUNNING.value: "good", Lifecycle.ERROR.value: "bad", DEAD: "bad",
                   SILENT: "bad", ABSENT: "faint"}


def _configure(_parser: ArgumentParser) -> None:
    pass


def _why(_arguments: Namespace, context: Context) -> int:
    seen = picturing.look(context)
    if context.console.json:
        context.console.emit({"why": seen.picture.why, "training": seen.picture.training, "source": seen.source,
                              "age_seconds": round(seen.age_seconds, 3)})
    else:
        context.console.line(printable(seen.picture.why))
    return 0


def _status(_arguments: Namespace, context: Context) -> int:
    seen = picturing.look(context)
    if context.console.json:
        context.console.emit(seen.document())
        return 0
    for line in status_lines(seen.picture, context.console):
        context.console.line(line)
    return 0


def status_lines(picture: StatusPicture, console: Console) -> list[str]:
    """The picture for people: why, alarms, figures, services, and who comes next."""
    lines = _folded(picture.why, "busy" if picture.training else "waiting", console)
    for alarm in picture.alarms:
        lines += _folded(alarm_words(alarm), "bad" if alarm.level == "bad" else "waiting", console)
    lines += ["", *facts(_figures(picture), console.width), "", *_services(picture.services, console)]
    if picture.waiting:
        shown = picture.waiting[:WAITING_SHOWN]
        waiting = [Column("next"), Column("name", flexible=True), Column("priority", spare=True),
                   Column("starts", flexible=True, spare=True),
                   Column("", flexible=True)]
        rows = [[job.id, job.name, job.priority, until(job.starts_at, picture.at), wording.standing(job)]
                for job in shown]
        lines += ["", *table(waiting, rows, console.width)]
        if len(picture.waiting) > len(shown):
            lines.append("more: trainq list --state queued")
    return lines


def until(span: Span | None, now: float) -> str:
    """How long until then, both ways: ``in 3 m 5 s to 4 m 0 s``; empty if nobody knows."""
    if span is None:
        return ""
    least, most = (max(0.0, moment - now) for moment in span)
    if most < 1:
        return "now"
    ends = duration(most) if round(least) == round(most) else f"{duration(round(least))} to {duration(most)}"
    return f"in {ends}"


def alarm_words(alarm: Alarm) -> str:
    """An alarm and its mend."""
    return f"! {alarm.text}: {alarm.mend}"


def _folded(text: str, style: str, console: Console) -> list[str]:
    """A sentence in as many lines as the terminal makes of it."""
    text = printable(text)
    return [console.paint(line, style) for line in (fold(text, console.width) if console.width else [text])]


def _figures(picture: StatusPicture) -> list[tuple[str, str]]:
    counts = picture.counts.get("train", {})
    running, ages = picture.running_job, picture.ages
    speed = running.tokens_per_second if running else None
    return [
        ("jobs", ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"),
        ("model", f"generation {picture.generation}, step {picture.step}, {picture.checkpoint}"
         if picture.generation else "none yet"),
        ("marked", ", ".join(map(printable, picture.marks))),
        *learning_figures(picture),
        ("saved", f"{duration(ages.checkpoint)} ago" if running and ages.checkpoint is not None else ""),
        ("speed", f"{count(speed)} tokens/s" if speed else ""),
        ("ends", until(running.ends_at, picture.at) if running else ""),
        ("stopped", picture.stop.removeprefix("the trainer is stopped: ")),
        ("paused", picture.pause.removeprefix("the queue is paused: ")),
        ("drained", picture.drain),
        ("disk", disk_words(picture.disk) if picture.disk else ""),
        ("machine", machine_words(picture.cpu) if picture.cpu else ""),
        ("gpu", gpu_words(picture.gpu)),
        ("journal", f"event {picture.seq}" if picture.seq else ""),
    ]


def learning_figures(picture: StatusPicture) -> list[tuple[str, str]]:
    """Who is champion and since when, what was judged last, and the levels; nothing before the first score."""
    learning, now = picture.learning, picture.at
    champion, judged = learning.champion, learning.judgement
    if learning.evaluated_at is None and champion is None:
        return []
    return [
        ("champion", f"{champion.checkpoint}, {champion.how.value.replace('_', ' ')} {_ago(now, champion.at)}"
         if champion else "none yet"),
        ("judged", f"{judged.checkpoint} {_ago(now, judged.at)}: {judged.outcome}"
         f"{', significantly worse' if judged.regressed else ''}; "
         f"{printable(judged.reasons[0]) if judged.reasons else ''}".rstrip("; ") if judged else ""),
        ("proposed", f"{learning.proposal}: trainq promote makes it champion" if learning.proposal else ""),
        ("levels", ", ".join(f"{each.generator} {each.level}" for each in learning.levels)),
    ]


def _ago(now: float, at: float) -> str:
    return f"{duration(max(0.0, now - at))} ago"


def disk_words(disk: DiskView) -> str:
    """What is free on the disk."""
    words = {"warn": " (low)", "hold": " (too low: nothing that needs room is begun)"}
    forecast = f", full in {disk.full_in_hours:.1f} h" if disk.full_in_hours is not None else ""
    return f"{size(disk.free_bytes)} of {size(disk.total_bytes)} free{forecast}{words.get(disk.state, '')}"


def machine_words(cpu: Cpu) -> str:
    """What the machine does."""
    return (f"{cpu.percent:.0f} % of {cpu.processors} processors, load {cpu.load[0]:.1f}, "
            f"{size(cpu.memory_available_bytes)} of {size(cpu.memory_total_bytes)} memory available")


def gpu_words(gpu: Devices) -> str:
    """What the GPUs do; empty where there are none."""
    return "; ".join(map(_device, gpu.devices))


def _device(device: Device) -> str:
    said = [f"{device.utilization_percent} %" if device.utilization_percent is not None else "",
            f"{size(device.memory_used_bytes)} of {size(device.memory_total_bytes)} used"
            if device.memory_used_bytes is not None and device.memory_total_bytes is not None else "",
            f"{device.temperature_celsius} °C" if device.temperature_celsius is not None else "",
            f"{device.power_watts:.0f} W" if device.power_watts is not None else ""]
    return ", ".join([device.name, *filter(None, said)])


def _services(services: tuple[ServiceStatus, ...], console: Console) -> list[str]:
    columns = [
        Column("service"),
        Column("state", paint=lambda cell: console.paint(cell, _SERVICE_STYLES.get(cell.strip(), ""))),
        Column("pid", right=True, spare=True), Column("up", right=True, spare=True),
        Column("heard", right=True, spare=True), Column("restarts", right=True, spare=True),
        Column("memory", right=True, spare=True), Column("", flexible=True)]
    rows = [[
        service.name, service.state, str(service.pid or ""),
        "" if service.uptime_seconds is None else duration(service.uptime_seconds),
        "" if service.age_seconds is None else f"{duration(service.age_seconds)} ago",
        str(service.restarts or ""), "" if service.memory_bytes is None else size(service.memory_bytes), service.detail]
        for service in services]
    return table(columns, rows, console.width)


COMMANDS = {"status": Command(_configure, _status), "why": Command(_configure, _why)}
