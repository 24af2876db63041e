"""``trainq status`` and ``trainq why``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trainq.cli import picturing, wording
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, count, duration, facts, size, table
from trainq.messages import DiskView, Lifecycle
from trainq.picture import ABSENT, DEAD, SILENT, ServiceStatus, StatusPicture

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
    """The picture for people: why, figures, services, and who comes next."""
    why = console.paint(printable(picture.why), "busy" if picture.training else "waiting")
    lines = [why, "", *facts(_figures(picture)), "", *_services(picture.services, console)]
    if picture.waiting:
        shown = picture.waiting[:WAITING_SHOWN]
        waiting = [Column("next"), Column("name", flexible=True), Column("priority"), Column("", flexible=True)]
        rows = [[job.id, job.name, job.priority, wording.standing(job)] for job in shown]
        lines += ["", *table(waiting, rows, console.width)]
        if len(picture.waiting) > len(shown):
            lines.append("more: trainq list --state queued")
    return lines


def _figures(picture: StatusPicture) -> list[tuple[str, str]]:
    counts = picture.counts.get("train", {})
    running = next((job for job in picture.running if job.kind == "train"), None)
    speed = running.progress.tokens_per_second if running and running.progress else None
    return [
        ("jobs", ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"),
        ("model", f"generation {picture.generation}, step {picture.step}, {picture.checkpoint}"
         if picture.generation else "none yet"),
        ("marked", ", ".join(map(printable, picture.marks))),
        ("speed", f"{count(speed)} tokens/s" if speed else ""),
        ("stopped", picture.stop.removeprefix("the trainer is stopped: ")),
        ("paused", picture.pause.removeprefix("the queue is paused: ")),
        ("drained", picture.drain),
        ("disk", _disk(picture.disk) if picture.disk else ""),
        ("journal", f"event {picture.seq}" if picture.seq else ""),
    ]


def _disk(disk: DiskView) -> str:
    words = {"warn": " (low)", "hold": " (too low: nothing that needs room is begun)"}
    forecast = f", full in {disk.full_in_hours:.1f} h" if disk.full_in_hours is not None else ""
    return f"{size(disk.free_bytes)} of {size(disk.total_bytes)} free{forecast}{words.get(disk.state, '')}"


def _services(services: tuple[ServiceStatus, ...], console: Console) -> list[str]:
    columns = [
        Column("service"),
        Column("state", paint=lambda cell: console.paint(cell, _SERVICE_STYLES.get(cell.strip(), ""))),
        Column("pid", right=True), Column("up", right=True), Column("heard", right=True), Column("", flexible=True)]
    rows = [[
        service.name, service.state, str(service.pid or ""),
        "" if service.uptime_seconds is None else duration(service.uptime_seconds),
        "" if service.age_seconds is None else f"{duration(service.age_seconds)} ago", service.detail]
        for service in services]
    return table(columns, rows, console.width)


COMMANDS = {"status": Command(_configure, _status), "why": Command(_configure, _why)}
