"""Who should be running, and answers: supervisord and its programs, sockets, broker, and what each service needs."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from trainq import alarms, picture
from trainq.config import why_unwanted
from trainq.doctor import loglines
from trainq.doctor.findings import Finding, Subject, fail, no_listener, ok, warn
from trainq.doctor.locks import holder_of
from trainq.errors import BrokerUnavailableError, SupervisorUnavailableError, TrainqError
from trainq.liveness import is_alive
from trainq.messages import Lifecycle, PauseCause
from trainq.picture import ABSENT, DEAD, SILENT, ServiceStatus

_CONNECT_SECONDS = 2.0
_SQLITE_HEADER = b"SQLite format 3\0"
# Who listens on what; a socket that is named here for nobody is not looked at.
_OWNERS = {"broker.sock": "broker", "events.sock": "broker", "status.sock": "status", "picture.sock": "status"}
# What a service cannot do its work without.
_NEEDS = {"watcher": ("broker",), "preparer": ("broker",), "trainer": ("broker", "preparer"), "snapshot": ("broker",),
          "retention": ("broker",), "consolidator": ("broker",), "evaluator": ("broker",), "datagen": ("broker",),
          "status": ("broker",), "web": ("broker", "status")}
_AT_WORK = frozenset({Lifecycle.RUNNING.value, Lifecycle.PAUSED.value, Lifecycle.INITIALIZING.value})
# A write-ahead log of this size is not being folded into the journal.
_LARGE_LOG_BYTES = 1 << 30


def supervisord(subject: Subject) -> Iterator[Finding]:
    """supervisord, and each program that it does not run."""
    path = subject.supervisor_socket
    try:
        programs = subject.programs
    except SupervisorUnavailableError as error:
        if path.exists():
            yield fail("supervisord", str(error.message), f"cd {path.parent.parent}; supervisord (it replaces the "
                       "socket)")
        else:
            yield warn("supervisord", "it does not run, so that nothing is started, or started again",
                       f"cd {path.parent.parent}; supervisord")
        return
    wrong = 0
    for program in programs:
        if program.state in ("FATAL", "BACKOFF", "EXITED", "UNKNOWN"):
            wrong += 1
            said = program.spawn_error or loglines.last_line(path.parent / f"{program.name}.log")
            yield fail("supervisord", f"{program.name} is {program.state} (exit code {program.exit_code})"
                       + (f": {said}" if said else ""),
                       f"trainq logs {program.name}; then supervisorctl start {program.name}")
        elif program.state in ("STOPPED", "STOPPING"):
            wrong += 1
            yield warn("supervisord", f"{program.name} is {program.state}", f"supervisorctl start {program.name}")
    if missing := sorted(set(picture.SERVICES) - {program.name for program in programs}):
        wrong += 1
        yield warn("supervisord", f"it does not know {', '.join(missing)}", "supervisorctl update (after a new version "
                   "of supervisord.conf)")
    if not wrong:
        yield ok("supervisord", f"runs all of its {len(programs)} programs")


def sockets(subject: Subject) -> Iterator[Finding]:
    """Each socket has somebody who listens, and each listener its socket."""
    wrong, answering = 0, 0
    for name, owner in _OWNERS.items():
        path = subject.home.run / name
        runs = holder_of(subject.home.run / f"{owner}.lock") is not None
        try:
            kind = path.lstat().st_mode
        except OSError:
            # The picture's socket is there only in newer versions.
            if runs and name != "picture.sock":
                wrong += 1
                yield fail("sockets", f"run/{name} is gone, and the {owner} runs: nobody reaches it",
                           f"supervisorctl restart {owner}")
            continue
        if not stat.S_ISSOCK(kind):
            wrong += 1
            yield fail("sockets", f"run/{name} is no socket", f"move {path} away; supervisorctl restart {owner}")
        elif problem := no_listener(path):
            wrong += 1
            if runs:
                yield fail("sockets", f"run/{name}: {problem}, and the {owner} runs", f"supervisorctl restart {owner}")
            else:
                yield warn("sockets", f"run/{name} is a file without a listener ({problem}): the {owner} was killed",
                           f"nothing but to start it: supervisorctl start {owner} (it replaces the file)")
        else:
            answering += 1
    if not wrong:
        yield ok("sockets", f"{answering} have a listener" if answering else "there is none: nothing runs")


def http(subject: Subject) -> Iterator[Finding]:
    """The web service's port: its own, and answering."""
    settings = subject.settings.web
    if why_unwanted(subject.settings.services, "web") or not settings.port:
        return  # with port 0 nobody but the service knows where it listens
    runs = holder_of(subject.home.run / "web.lock") is not None
    where = f"127.0.0.1:{settings.port}"
    try:
        with socket.create_connection(("127.0.0.1", settings.port), timeout=_CONNECT_SECONDS):
            answers = ""
    except OSError as error:
        answers = error.strerror or str(error)
    if runs and answers:
        yield fail("http", f"web runs, and nobody takes a connection on {where}: {answers}", "trainq logs web (is the "
                   "port another program's? [web] port)")
    elif not runs and not answers:
        yield warn("http", f"web of this home does not run, and somebody else listens on {where}: it will not get the "
                   "port", "set another [web] port, or end the other one (ss -tlnp)")
    elif runs:
        yield ok("http", f"answers on {where}")


def broker(subject: Subject) -> Iterator[Finding]:
    """The broker answers; and if it does not, what is there of its journal."""
    before = time.monotonic()
    try:
        overview = subject.overview
    except BrokerUnavailableError as error:
        holder = holder_of(subject.home.run / "broker.lock")
        if holder is not None:
            yield fail("broker", f"process {holder.pid} holds its lock, and does not answer: {error.message}",
                       "supervisorctl restart broker; trainq logs broker")
        else:
            yield warn("broker", "it does not run", "supervisorctl start broker")
    except TrainqError as error:
        yield fail("broker", str(error.message), error.mend or "do its version and this one agree? trainq version")
    else:
        yield ok("broker", f"answers in {1000 * (time.monotonic() - before):.0f} ms; journal {overview.journal_id}, "
                 f"event {overview.seq}; {_counts(overview.counts)}")
    yield from _journal(subject)


def _counts(counts: dict[str, dict[str, int]]) -> str:
    train = ", ".join(f"{number} {state}" for state, number in counts.get("train", {}).items())
    return train or "no files yet"


def _journal(subject: Subject) -> Iterator[Finding]:
    path = subject.home.journal
    try:
        found = path.stat()
    except OSError:
        kept = [folder.name for folder in (subject.home.checkpoints, subject.home.data) if _has_entries(folder)]
        if kept:
            yield fail("journal", f"there is no {path}, and something lies in {' and '.join(kept)}/", "do not start "
                       "the broker: bring the journal back (trainq backup restore), or mount the disk that it is on")
        return
    if not stat.S_ISREG(found.st_mode):
        yield fail("journal", f"{path} is no file", "bring the journal back (trainq backup restore)")
        return
    with path.open("rb") as stream:
        header = stream.read(len(_SQLITE_HEADER))
    log = path.with_name(path.name + "-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    if header and header != _SQLITE_HEADER:
        yield fail("journal", f"{path} does not begin as SQLite's files do", "trainq fsck; trainq backup restore")
    elif not os.access(path, os.R_OK | os.W_OK):
        yield fail("journal", f"{path} cannot be read and written by this user", f"chmod u+rw {path}")
    elif log_bytes > _LARGE_LOG_BYTES:
        yield warn("journal", f"{log.name} has {log_bytes / 1e9:.1f} GB", "supervisorctl restart broker")
    else:
        yield ok("journal", f"{found.st_size / 1e6:.1f} MB, and {log_bytes / 1e6:.1f} MB to be folded in")


def services(subject: Subject) -> Iterator[Finding]:
    """Which services are not well, and who cannot work for it; as the broker has heard of them."""
    try:
        overview = subject.overview
    except TrainqError:
        yield warn("services", "nobody knows how they are: the broker does not answer")
        return
    seen = picture.fold(overview, overview_age_seconds=0.0, now_wall=time.time(), is_alive=is_alive,
                        silent_after_seconds=picture.silent_after(subject.settings.broker))
    by_name = {service.name: service for service in seen.services}
    findings = [finding for service in seen.services if (finding := _unwell(service, by_name)) is not None]
    yield from findings
    for what, why in (("paused", overview.pause), ("drained", overview.drain), ("stopped", overview.stop)):
        if why:
            yield warn("orders", f"{what}: {why}", "trainq resume")
    if not findings:
        yield ok("services", f"{len(seen.services)} are well; {seen.why}")


def _unwell(service: ServiceStatus, by_name: dict[str, ServiceStatus]) -> Finding | None:
    name, state = service.name, service.state
    hindered = [other for other, needs in _NEEDS.items()
                if name in needs and other in by_name and by_name[other].state in _AT_WORK]
    without = f"; without it {', '.join(hindered)} cannot work" if hindered else ""
    if state == SILENT:
        return fail("services", f"{name} (process {service.pid}) has not been heard of for "
                    f"{service.age_seconds or 0:.0f} s: it hangs{without}", f"supervisorctl restart {name}")
    if state == DEAD:
        return fail("services", f"{name} has died{without}", f"supervisorctl status {name}; trainq logs {name}")
    if state == Lifecycle.ERROR.value:
        return fail("services", f"{name} tries again and again: {service.detail}{without}", f"trainq logs {name}")
    if state in (ABSENT, Lifecycle.STOPPED.value):
        return warn("services", f"{name} is {state}{without}", f"supervisorctl start {name}")
    if state == Lifecycle.PAUSED.value:
        return _paused(service, without)
    return None


def _paused(service: ServiceStatus, without: str) -> Finding | None:
    name, detail = service.name, service.detail or "it says no more"
    if alarms.is_wanted(service):
        return None
    match service.cause:
        case PauseCause.GIVEN_UP:
            return fail("services", f"{name} has given up: {detail}{without}", f"trainq services restart {name}")
        case PauseCause.WAITING:
            return warn("services", f"{name} waits, and goes on by itself: {detail}{without}")
        case _:
            return warn("services", f"{name} is paused: {detail}{without}", "mend what the reason names, it goes on "
                        f"by itself then; trainq logs {name}")


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith(".") and entry.name != "spool" for entry in entries)
    except OSError:
        return False
