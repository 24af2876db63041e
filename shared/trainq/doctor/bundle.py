"""A report to send to somebody who is to help: bounded, and without secrets or rows (:mod:`trainq.doctor.redaction`).

A gzipped tar with one folder. Whatever cannot be had is left out, and ``README.txt`` says so. Nothing of ``data/``,
``inbox/``, ``rejected/``, ``cache/`` or of a model is looked into.
"""

from __future__ import annotations

import io
import os
import platform
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson

from trainq import __version__
from trainq.client import BrokerClient
from trainq.doctor import installation, loglines
from trainq.doctor.findings import ANSWER_SECONDS, Finding, Subject
from trainq.doctor.locks import holder_of, lock_files
from trainq.doctor.redaction import Redactor
from trainq.errors import TrainqError
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.logs import JOBS_FOLDER
from trainq.messages import Events, EventView, Replay

EVENTS = 500
LOG_TAIL_BYTES = 256 * 1024
SUPERVISOR_TAIL_BYTES = 64 * 1024
# The newest attempts at jobs, of each at most three files.
ATTEMPTS = 8
ATTEMPT_TAIL_BYTES = 64 * 1024
# Of one file in it, and of all together before they are compressed.
MAX_MEMBER_BYTES = 2 * 1024 * 1024
MAX_BYTES = 24 * 1024 * 1024

_FOLDER = "trainq-bundle"
# It quotes the names of its programs, and hears nothing else.
_WITHOUT_ROWS = frozenset({"supervisord"})
_MACHINE = ("meminfo", "loadavg", "uptime", "version", "pressure/cpu", "pressure/io", "pressure/memory",
            "sys/vm/overcommit_memory", "sys/fs/file-nr", "driver/nvidia/version")
_OF_PROCESS = ("status", "limits", "io", "wchan", "stat")
_SMALL_BYTES = 16 * 1024
# Their bodies are a user's own words.
_USERS_EVENTS = "User"

Member = tuple[str, bytes]


def write(stream: BinaryIO, subject: Subject, findings: Sequence[Finding]) -> list[str]:
    """Write the report to ``stream``; what could not be had, a line each."""
    redactor = Redactor(subject.environment, [subject.home.run / "token"])
    left_out: list[str] = []
    total = 0
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in _members(subject, findings, redactor, left_out):
            if len(content) > MAX_MEMBER_BYTES or total + len(content) > MAX_BYTES:
                left_out.append(f"{name}: {len(content)} bytes are more than there is room for")
                continue
            total += len(content)
            _add(archive, name, content)
        _add(archive, "README.txt", _readme(left_out).encode("utf-8", "backslashreplace"))
    return left_out


def _members(subject: Subject, findings: Sequence[Finding], redactor: Redactor,
             left_out: list[str]) -> Iterator[Member]:
    parts: tuple[tuple[str, Callable[[Subject, Redactor], Any]], ...] = (
        ("config.json", _configuration), ("status.json", _status), ("supervisord.json", _programs),
        ("versions.json", _versions), ("machine.json", _machine), ("processes.json", _processes),
        ("home.json", _home), ("broker.json", _broker))
    # Any of them may quote the last line of a log, or the reason of a job.
    yield "doctor.json", _json([redactor.value(msgspec.to_builtins(each), rows=True) for each in findings])
    for name, make in parts:
        try:
            yield name, _json(make(subject, redactor))
        except (TrainqError, OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            left_out.append(f"{name}: {redactor.text(str(error), rows=True)}")
    try:
        yield "events.jsonl", b"".join(_json(_event(each, redactor), indent=False) for each in _newest(subject))
    except TrainqError as error:
        left_out.append(f"events.jsonl: {redactor.text(str(error), rows=True)}")
    for folder, name, most_bytes in ((subject.home.logs, "logs", LOG_TAIL_BYTES),
                                     (subject.supervisor_socket.parent, "supervisor", SUPERVISOR_TAIL_BYTES)):
        for path in loglines.log_files(folder):
            for each in (path, loglines.before(path)):
                if each == path or each.is_file():
                    content = loglines.tail(each, most_bytes)
                    yield f"{name}/{each.name}", _log(content, redactor, rows=path.stem not in _WITHOUT_ROWS)
    for path in loglines.newest_attempts(subject.home.logs / JOBS_FOLDER, ATTEMPTS):
        yield f"logs/jobs/{path.name}", _log(loglines.tail(path, ATTEMPT_TAIL_BYTES), redactor, rows=True)


def _configuration(subject: Subject, redactor: Redactor) -> Any:
    ours = {name: value for name, value in sorted(subject.environment.items()) if name.startswith("TRAINQ_")}
    return {**redactor.value({
        "file": str(subject.file or ""), "home": str(subject.home.root),
        "problems": [str(problem) for problem in subject.problems],
        "settings": msgspec.to_builtins(subject.settings)}), "environment": redactor.variables(ours)}


def _status(subject: Subject, redactor: Redactor) -> Any:
    with subject.home.status_file.open("rb") as stream:
        return redactor.value(orjson.loads(stream.read(MAX_MEMBER_BYTES)), rows=True)


def _programs(subject: Subject, redactor: Redactor) -> Any:
    return redactor.value(msgspec.to_builtins(subject.programs), rows=True)


def _broker(subject: Subject, redactor: Redactor) -> Any:
    overview = subject.overview
    return redactor.value({"journal_id": overview.journal_id, "seq": overview.seq, "counts": overview.counts,
                           "generation": overview.generation, "checkpoint": overview.checkpoint,
                           "step": overview.step, "marks": list(overview.marks), "up_seconds": overview.up_seconds,
                           "services": msgspec.to_builtins(overview.services)}, rows=True)


def _versions(subject: Subject, _redactor: Redactor) -> Any:
    names = [line.partition(">")[0].partition("=")[0].strip() for line in installation.declared(subject.root)]
    return {"trainq": __version__, "python": platform.python_version(), "platform": platform.platform(),
            "packages": {name: installation.version_of(name) for name in names}}


def _machine(_subject: Subject, redactor: Redactor) -> Any:
    cpus = _small(Path("/proc/cpuinfo"))
    model = next((line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")), "")
    return redactor.value({"cpus": os.cpu_count(), "usable_cpus": len(os.sched_getaffinity(0)), "cpu": model,
                           **{name: _small(Path("/proc", name)) for name in _MACHINE}})


def _processes(subject: Subject, redactor: Redactor) -> Any:
    """Of who holds a lock of the home, what the kernel says. Never its environment."""
    found = {}
    for path in lock_files(subject.home.run, subject.home.checkpoints):
        holder = holder_of(path)
        if holder is not None:
            folder = Path("/proc", str(holder.pid))
            found[path.name] = {"pid": holder.pid, "command": holder.command, "descriptors": _count(folder / "fd"),
                                **{name: _small(folder / name) for name in _OF_PROCESS}}
    return redactor.value(found)


def _home(subject: Subject, redactor: Redactor) -> Any:
    """What lies in the home's own folder, and how many entries the folders in it have; no names of files in those."""
    found = {}
    with os.scandir(subject.home.root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name)[:1000]:
            facts = entry.stat(follow_symlinks=False)
            found[entry.name] = {"mode": oct(facts.st_mode), "user": facts.st_uid, "size_bytes": facts.st_size,
                                 "modified_at": facts.st_mtime,
                                 "entries": _count(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else None}
    return redactor.value(found)


def _newest(subject: Subject) -> list[EventView]:
    """The newest events, in order."""
    head = subject.overview.seq
    found: list[EventView] = []
    with BrokerClient(subject.home) as broker:
        while len(found) < EVENTS:
            after = found[-1].seq if found else max(0, head - EVENTS)
            page = broker.call(Replay(request_id=new_request_id(), after_seq=after, limit=EVENTS), Events,
                               timeout_seconds=ANSWER_SECONDS)
            if not page.events:
                break
            found += page.events
    return found[:EVENTS]


def _event(event: EventView, redactor: Redactor) -> Any:
    body = {} if event.type.startswith(_USERS_EVENTS) else event.body
    of_a_file = event.job.startswith((f"{JobKind.TRAIN.value}-", f"{JobKind.PREPARE.value}-"))
    return redactor.value({"seq": event.seq, "at": event.at, "type": event.type, "job": event.job, "body": body},
                          rows=of_a_file or event.type == "FileRefused")


def _log(content: bytes, redactor: Redactor, *, rows: bool) -> bytes:
    """The lines of a log, redacted: those that are JSON by their fields, the others as one text up to the next such."""
    found: list[bytes] = []
    plain: list[str] = []

    def end_of_plain() -> None:
        if plain:
            text = redactor.lines("\n".join(plain), rows=rows)
            found.append(text.encode("utf-8", "backslashreplace") + b"\n")
            plain.clear()

    for line in content.splitlines():
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            end_of_plain()
            found.append(_json(redactor.value(record, rows=rows), indent=False))
        else:
            # Of JSON only objects: a line that is a number or in quotes may be one of a key's.
            plain.append(line.decode("utf-8", "backslashreplace"))
    end_of_plain()
    return b"".join(found)


def _json(value: Any, *, indent: bool = True) -> bytes:
    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=str, option=options)
    except orjson.JSONEncodeError:
        # A file's name that is no UTF-8 has lone surrogates, which JSON cannot hold.
        return repr(value).encode("utf-8", "backslashreplace") + b"\n"


def _small(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_SMALL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _count(folder: Path) -> int | None:
    """How many entries a folder has, up to a limit; None if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _, _ in zip(range(100_000), entries, strict=False))
    except OSError:
        return None


def _readme(left_out: list[str]) -> str:
    lines = [
        "A report on an installation of trainq, made by `trainq bundle`.", "",
        "Secrets are taken out by the names that they stand under, by their shape, and by their value where the",
        "environment had it; rows of files are taken out of reasons and logs. Names of files and folders are in it.",
        "Look through it before you send it."]
    if left_out:
        lines += ["", "Not in it:", *(f"- {line}" for line in left_out)]
    return "\n".join(lines) + "\n"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"{_FOLDER}/{name}")
    member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
    archive.addfile(member, io.BytesIO(content))
