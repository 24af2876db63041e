"""The locks: who holds each, and whether that is who should. No lock is taken for it: the kernel's table says so."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainq.doctor.findings import Finding, Subject, fail, ok, warn
from trainq.errors import NotFoundError, SupervisorUnavailableError
from trainq.liveness import is_alive
from trainq.picture import SERVICES
from trainq.supervising import BACKOFF, FATAL, STARTING, Supervisor

_TABLE = Path("/proc/locks")
_MOST_BYTES = 64
# So are programs that cannot have their lock.
_KEPT_OUT = frozenset({STARTING, BACKOFF, FATAL})


class Holder(NamedTuple):
    """A process that holds a lock. ``state`` is proc_pid_stat(5)'s letter; empty if it cannot be looked at."""

    pid: int
    state: str
    command: str


def locks(subject: Subject) -> Iterator[Finding]:
    """Every lock of the home."""
    table = _read_table()
    if table is None:
        yield warn("locks", f"{_TABLE} cannot be read, so that nobody knows who holds which")
        return
    there = 0
    for path in lock_files(subject.home.run, subject.home.checkpoints):
        there += 1
        yield _lock(subject, path, table)
    if not there:
        yield ok("locks", "there is none yet")


def lock_files(run: Path, checkpoints: Path) -> list[Path]:
    """The files that are locked, by name."""
    try:
        found = sorted(run.glob("*.lock"))
    except OSError:
        found = []
    own = checkpoints / ".lock"
    return [*found, own] if os.path.lexists(own) else found


def holder_of(path: Path, table: str | None = None) -> Holder | None:
    """Who holds the lock; None if nobody does, or it cannot be known.

    Args:
        path: the file that is locked.
        table: the content of ``/proc/locks``; read without.
    """
    table = _read_table() if table is None else table
    try:
        found = path.stat()
    except OSError:
        return None
    written = written_pid(path)
    for line in (table or "").splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK" or not fields[4].lstrip("-").isdecimal():
            continue
        major, _, rest = fields[5].partition(":")
        minor, _, inode = rest.partition(":")
        same_disk = (major, minor) == (f"{os.major(found.st_dev):02x}", f"{os.minor(found.st_dev):02x}")
        # Some file systems (btrfs, overlayfs) tell files another device than the kernel's table does.
        if inode == str(found.st_ino) and (same_disk or int(fields[4]) == written):
            return _holder(int(fields[4]))
    return None


def written_pid(path: Path) -> int:
    """The pid that the last holder has written; 0 if there is none to be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return 0
        with path.open("rb") as stream:
            text = stream.read(_MOST_BYTES).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() and len(text) < 11 else 0


def _lock(subject: Subject, path: Path, table: str) -> Finding:
    name = path.relative_to(subject.home.root)
    try:
        kind = path.lstat().st_mode
    except OSError as error:
        return fail("locks", f"{name} cannot be looked at: {error.strerror}", f"chmod u+rwx {path.parent}")
    if not stat.S_ISREG(kind):
        return fail("locks", f"{name} is no file, so that its service cannot start", f"move {path} away")
    holder, written = holder_of(path, table), written_pid(path)
    if holder is None:
        if written and is_alive(written):
            return ok("locks", f"{name} is free; {written}, which held it, is another process now, or let it go")
        return ok("locks", f"{name} is free" + (f"; process {written}, which held it last, has ended (what it left "
                                                "keeps nobody out)" if written else ""))
    return _held(subject, path, holder)


def _held(subject: Subject, path: Path, holder: Holder) -> Finding:
    name, service = path.relative_to(subject.home.root), path.stem
    who = f"{name} is held by process {holder.pid}"
    if holder.state == "T":
        return fail("locks", f"{who}, which is stopped", f"kill -CONT {holder.pid}")
    if holder.state == "D":
        return warn("locks", f"{who}, which waits in the kernel", "if it goes on so, a disk hangs: dmesg says more")
    is_service = path.parent == subject.home.run and service in SERVICES
    if holder.command and is_service and f"services.{service}" not in holder.command:
        return warn("locks", f"{who}, which is not the {service}: {holder.command[:100]}",
                    "fsck and tests take a lock for a while; else end that process")
    if is_service and _is_anothers(subject, service, holder.pid):
        return _disputed(subject, path)
    return ok("locks", who)


def _is_anothers(subject: Subject, service: str, pid: int) -> bool:
    """Whether supervisord, when it was asked, knew another process as this service, or none."""
    try:
        return any(program.name == service and program.pid != pid for program in subject.programs)
    except SupervisorUnavailableError:
        return False


def _disputed(subject: Subject, path: Path) -> Finding:
    """Supervisord knew another than who holds the lock. Between two looks it may have started one: both once more."""
    name, service = path.relative_to(subject.home.root), path.stem
    try:
        program = Supervisor(subject.supervisor_socket).program(service)
    except (SupervisorUnavailableError, NotFoundError):
        program = None
    holder = holder_of(path)
    if holder is None:
        return ok("locks", f"{name} is free")
    who = f"{name} is held by process {holder.pid}"
    if program is None or program.pid == holder.pid:
        return ok("locks", who)
    found = (f"{who}, and supervisord knows {f'process {program.pid}' if program.pid else 'no process'} as {service} "
             f"({program.state})")
    other = _supervisord_above(holder.pid)
    if program.state in _KEPT_OUT and not other:
        return fail("locks", f"{found}: one that was left keeps the new one from starting", f"kill {holder.pid}")
    if other:
        return warn("locks", f"{found}; it was started by the supervisord that is process {other}",
                    "one home has one supervisord: is TRAINQ_HOME of one of the two meant to be another?")
    return warn("locks", found, f"it may have been started by hand: ps -fp {holder.pid} says more")


def _supervisord_above(pid: int) -> int:
    """The supervisord from which a process descends; 0 for one that was left, or was started by hand."""
    seen = {0}
    while (pid := _parent(pid)) not in seen:
        seen.add(pid)
        if any(word.endswith("supervisord") for word in _holder(pid).command.split()):
            return pid
    return 0


def _parent(pid: int) -> int:
    """Its parent's pid; 0 if it has none, or has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _holder(pid: int) -> Holder:
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return Holder(pid, "", "")
    return Holder(pid, status[0].decode() if status else "", command.decode(errors="replace"))


def _read_table() -> str | None:
    try:
        return _TABLE.read_text(errors="replace")
    except OSError:
        return None
