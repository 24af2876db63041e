"""``trainq list`` and ``trainq show``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from trainq import orders
from trainq.cli import arguments as types
from trainq.cli import picturing, wording
from trainq.cli.console import Console
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, duration, facts, moment, size, table
from trainq.client import BrokerClient
from trainq.config import TrainSettings
from trainq.errors import BrokerUnavailableError
from trainq.ids import new_request_id
from trainq.jobs import Enclosed, EnclosedRole, JobKind, JobState
from trainq.messages import EffectView, JobDetail, JobView, ListJobs, ShowJob

DEFAULT_LIMIT = 50
EFFECTS_SHOWN = 10
BAD_ROWS_SHOWN = 5
SETTINGS_A_LINE = 5
SOURCES_SHOWN = 8


def _configure_list(parser: ArgumentParser) -> None:
    parser.add_argument("--state", action="append", default=[], choices=[state.value for state in JobState],
                        help="only jobs in this state; may be repeated")
    parser.add_argument("--failed", action="store_true",
                        help="only jobs with a failed attempt or set aside: attempts, last error, when tried again")
    parser.add_argument("--kind", choices=[*(kind.value for kind in JobKind), "all"], default=JobKind.TRAIN.value,
                        help="default: train")
    parser.add_argument("--limit", type=types.positive, default=DEFAULT_LIMIT, metavar="N",
                        help=f"at most so many, the newest (default {DEFAULT_LIMIT})")
    parser.add_argument("--all", action="store_true", help="no limit")


def _list(arguments: Namespace, context: Context) -> int:
    kinds = tuple(JobKind) if arguments.kind == "all" else (JobKind(arguments.kind),)
    states = tuple(JobState(state) for state in arguments.state)
    limit = None if arguments.all else arguments.limit
    # One more than shown tells whether there are more.
    ask = ListJobs(request_id="", kinds=kinds, states=states, failed_only=arguments.failed)
    found, source = _find(context, ask, None if limit is None else limit + 1)
    shown = found[:limit]
    if context.console.json:
        context.console.emit({"jobs": msgspec.to_builtins(shown), "more": len(found) > len(shown), "source": source})
        return 0
    if shown:
        for line in (failed_lines if arguments.failed else job_lines)(shown, context.console):
            context.console.line(line)
    else:
        context.console.say("no such jobs" if states or arguments.failed else "no jobs; trainq submit FILE makes one")
    if len(found) > len(shown):
        context.console.say(f"these are the newest {limit}; trainq list --all shows all")
    return 0


def _find(context: Context, ask: ListJobs, limit: int | None) -> tuple[list[JobView], str]:
    found: list[JobView] = []
    try:
        with BrokerClient(context.home) as broker:
            for job in orders.all_jobs(broker, ask, picturing.ANSWER_SECONDS):
                found.append(job)
                if len(found) == limit:
                    break
    except BrokerUnavailableError as error:
        seen, source, _ = picturing.last_written(context, error)
        context.console.say("only jobs that run or wait are in it")
        known = sorted((*seen.running, *seen.waiting), key=lambda job: -job.number)
        return [job for job in known if job.kind in ask.kinds and (not ask.states or job.state in ask.states)
                and (not ask.failed_only or job.failures)][:limit], source
    return found, "broker"


def job_lines(jobs: list[JobView], console: Console) -> list[str]:
    """A table of jobs."""
    columns = [
        Column("job"),
        Column("state", paint=lambda cell: console.paint(cell, wording.STATE_STYLES.get(cell.strip(), ""))),
        Column("name", flexible=True), Column("priority", spare=True), Column("rows", right=True, spare=True),
        Column("submitted", spare=True), Column("took", right=True, spare=True), Column("", flexible=True)]
    rows = [[job.id, job.state.value, job.name, job.priority, str(job.rows or ""), moment(job.submitted_at),
             wording.took(job), wording.standing(job)] for job in jobs]
    return table(columns, rows, console.width)


def failed_lines(jobs: list[JobView], console: Console) -> list[str]:
    """A table of jobs with what went wrong."""
    columns = [
        Column("job"),
        Column("state", paint=lambda cell: console.paint(cell, wording.STATE_STYLES.get(cell.strip(), ""))),
        Column("name", flexible=True), Column("attempts", right=True, spare=True),
        Column("failed", right=True, spare=True), Column("tried again", spare=True),
        Column("last error", flexible=True)]
    rows = [[job.id, job.state.value, job.name, str(job.attempts), str(job.failures), wording.tried_again(job),
             job.reason] for job in jobs]
    return table(columns, rows, console.width)


def _configure_show(parser: ArgumentParser) -> None:
    parser.add_argument("job", type=types.job_id, metavar="JOB", help="train-7, or 7 for short")


def _show(arguments: Namespace, context: Context) -> int:
    with BrokerClient(context.home) as broker:
        detail = broker.call(ShowJob(request_id=new_request_id(), job=arguments.job), JobDetail)
    if context.console.json:
        document: dict[str, Any] = msgspec.to_builtins(detail)
        document.pop("type")
        context.console.emit(document)
        return 0
    for line in facts(_facts(detail), context.console.width):
        context.console.line(line)
    return 0


def _facts(detail: JobDetail) -> list[tuple[str, str]]:
    job, report = detail.job, detail.report or {}
    pairs = [
        ("job", job.id), ("state", job.state.value), ("", wording.standing(job)), ("name", job.name),
        ("priority", job.priority), ("origin", job.origin),
        ("waits for", ", ".join(detail.waits_for) + (" (any end)" if detail.after_any else "")
         if detail.waits_for else ""),
        ("size", size(job.size_bytes)), ("digest", job.digest),
        ("rows", f"{job.rows} ({job.tokens} tokens)" if job.rows else ""),
        ("attempts", f"{job.attempts}, {job.failures} failed" if job.failures else str(job.attempts)),
        ("submitted", moment(job.submitted_at)), ("started", moment(job.started_at)), ("ended", moment(job.ended_at)),
        ("took", wording.took(job)),
        ("speed", f"{job.progress.tokens_per_second:.0f} tokens/s"
         if job.progress and job.progress.tokens_per_second else ""),
        ("left", duration(job.progress.seconds_left) if job.progress and job.progress.seconds_left else ""),
        ("because", detail.cause),
    ]
    if detail.spec is not None:
        pairs += [
            ("model", detail.spec.model or "built-in"),
            *_settings(detail.spec.train),
            ("columns", ", ".join(f"{field}={column}" for field, column in detail.spec.data.map.items())),
        ]
    pairs += _effects(detail.effects)
    pairs += [(f"result {key}", _value(value)) for key, value in (job.result or {}).items() if key != "type"]
    pairs += [(f"report {key}", _value(value)) for key, value in report.items() if not isinstance(value, dict | list)]
    pairs += _quality(report.get("quality"))
    pairs += [("made with", _enclosed(each)) for each in detail.enclosed]
    pairs += [("bad row", _bad_row(row)) for row in report.get("bad_rows", ())[:BAD_ROWS_SHOWN]]
    return pairs


def _quality(quality: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """The band of the file with its reasons, warnings, and measures."""
    if quality is None:
        return
    yield "quality", str(quality.get("band", ""))
    yield from (("", reason) for reason in quality.get("reasons", ()))
    yield from (("warning", warning) for warning in quality.get("warnings", ()))
    measures = {name: value for name, value in quality.items() if isinstance(value, int)}
    yield "measures", ", ".join(f"{name} {value}" for name, value in measures.items())


def _enclosed(enclosed: Enclosed) -> str:
    """What a shard was made with besides the file."""
    sources = list(enclosed.sources.items())
    told = ", ".join(f"{name} ({rows})" for name, rows in sources[:SOURCES_SHOWN])
    more = f" and {len(sources) - SOURCES_SHOWN} more" if len(sources) > SOURCES_SHOWN else ""
    what = "rows of" if enclosed.role is EnclosedRole.REPLAY else "the guarded suites"
    return f"{what} {told}{more}"


def _settings(train: TrainSettings) -> Iterator[tuple[str, str]]:
    """All that was frozen at the submit, a few to a line."""
    told = [f"{name} {_value(value)}" for name, value in msgspec.to_builtins(train).items() if name != "folders"]
    for start in range(0, len(told), SETTINGS_A_LINE):
        yield "settings" if start == 0 else "", ", ".join(told[start:start + SETTINGS_A_LINE])


def _effects(effects: Sequence[EffectView]) -> list[tuple[str, str]]:
    """What has made its steps others than its settings say; those that were decided together on one line."""
    together: dict[tuple[str, str], list[EffectView]] = {}
    for effect in effects:
        together.setdefault((effect.kind.value, effect.reason), []).append(effect)
    pairs = []
    for (kind, reason), each in list(together.items())[:EFFECTS_SHOWN]:
        steps = sorted(effect.step + 1 for effect in each)
        where = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        pairs.append((kind, f"{where}: {reason}"))
    more = len(together) - len(pairs)
    return [*pairs, *([("", f"{more} more: trainq show --json")] if more else [])]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as trainq.toml has it
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _bad_row(row: dict[str, Any]) -> str:
    field = f", {row['field']}" if row.get("field") else ""
    return f"line {row.get('line')}, column {row.get('column')}{field}: {row.get('reason')} ({row.get('mend')})"


COMMANDS = {"list": Command(_configure_list, _list), "show": Command(_configure_show, _show)}
