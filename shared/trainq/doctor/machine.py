"""The machine: room and inodes, memory, the GPU, the clock, and the limits of the system."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trainq import gpu, room
from trainq.doctor.findings import Finding, Subject, fail, ok, warn
from trainq.doctor.locks import holder_of
from trainq.liveness import family

_GIB = 1 << 30
_LOW_MEMORY_BYTES = 512 << 20
_FEW_INODES = 10_000
_FEW_DESCRIPTORS = 4096
# libzmq and inotify each take some for every service.
_FEW_INOTIFY_INSTANCES = 32
_MOST_FOLDERS = 100_000
_EARLIEST = 1_735_689_600.0  # 2025-01-01: trainq did not exist before
_AHEAD_SECONDS = 120.0
# <linux/timex.h>: the kernel's view of how its clock is kept.
_STA_UNSYNC = 0x0040
_TIMEX_BYTES, _STATUS_AT = 208, 40


def disk(subject: Subject) -> Iterator[Finding]:
    """Room and inodes on the home's disk, against ``[disk]``."""
    there = subject.home.root
    while not there.is_dir() and there != there.parent:
        there = there.parent
    settings = subject.settings.disk
    usage, inodes = room.usage(there), os.statvfs(there)
    warn_bytes, hold_bytes = (max(gib * _GIB, usage.total_bytes * percent / 100) for gib, percent in (
        (settings.warn_gib, settings.warn_percent), (settings.hold_gib, settings.hold_percent)))
    said = f"{usage.free_bytes / _GIB:.1f} of {usage.total_bytes / _GIB:.1f} GiB are free"
    make_room = "trainq retention apply, or make room; it goes on by itself"
    if usage.free_bytes < hold_bytes:
        yield fail("disk", f"{said}, and below {hold_bytes / _GIB:.1f} nothing that needs room is begun ([disk] "
                   "hold_gib)", make_room)
    elif not usage.free_bytes:
        yield fail("disk", f"{said}: the disk is full", make_room)
    elif usage.free_bytes < warn_bytes:
        yield warn("disk", f"{said}, less than {warn_bytes / _GIB:.1f} ([disk] warn_gib)", make_room)
    else:
        yield ok("disk", said)
    # A file system that counts none (btrfs) says 0 of 0.
    if inodes.f_files and not inodes.f_favail:
        yield fail("inodes", "no file can be made any more: all inodes are taken", "remove many small files, or make a "
                   "larger file system")
    elif inodes.f_files and inodes.f_favail < min(_FEW_INODES, inodes.f_files // 20):
        yield warn("inodes", f"{inodes.f_favail} of {inodes.f_files} are left", "remove many small files")


def memory(_subject: Subject) -> Iterator[Finding]:
    """What programs may still take (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    known = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)
             if rest.split()}
    available, total = known.get("MemAvailable", 0), known.get("MemTotal", 0)
    said = f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB are available"
    if available < _LOW_MEMORY_BYTES:
        yield warn("memory", said, "end other programs, or the kernel will")
    else:
        yield ok("memory", said)


def gpu_driver(subject: Subject, look: Callable[..., gpu.View] = gpu.look) -> Iterator[Finding]:
    """The GPU as training would see it, by the driver; torch is not asked."""
    settings = subject.settings.trainer
    view = look(subject.environment)
    trainer = holder_of(subject.home.run / "trainer.lock")
    own = family(trainer.pid) if trainer is not None else set()
    others = gpu.foreign(view, own, min(own - {trainer.pid}, default=0) if trainer is not None else 0, gpu.is_here)
    limits = gpu.Limits(required=settings.gpu == "required", foreign_mib=settings.foreign_mib,
                        max_celsius=settings.max_celsius)
    verdict = gpu.judge(view, others, limits, was_hot=False)
    driver = _first_line(Path("/proc/driver/nvidia/version"))
    if view.trouble:
        yield fail("gpu", verdict.hold, "nvidia-smi; after an update of the driver, restart the machine")
    elif not view.found and verdict.hold:
        yield fail("gpu", verdict.hold, "nvidia-smi; is CUDA_VISIBLE_DEVICES right? or [trainer] gpu = \"auto\"")
    elif not view.found and driver:
        yield warn("gpu", f"the driver is there ({driver}), and no GPU is found", "nvidia-smi; is nvidia-ml-py "
                   "installed, and CUDA_VISIBLE_DEVICES right?")
    elif not view.found:
        yield ok("gpu", "none: training is done by the processor")
    elif verdict.hold:
        yield warn("gpu", verdict.hold, "end the others, or wait: it goes on by itself")
    else:
        warmth = "" if view.celsius is None else f", {view.celsius} degrees"
        yield ok("gpu", f"found{warmth}; {len(view.uses)} processes on it{f'; {driver}' if driver else ''}")


def clock(subject: Subject, wall: Callable[[], float] = time.time) -> Iterator[Finding]:
    """The clock is not behind what was already written, and is kept by somebody."""
    now, home = wall(), subject.home
    newest, latest = "", 0.0
    for path in (home.journal, home.journal.with_name(home.journal.name + "-wal"), home.status_file, home.checkpoints):
        try:
            at = path.stat().st_mtime
        except OSError:
            continue
        if at > latest:
            newest, latest = path.name, at
    if now < _EARLIEST:
        yield fail("clock", f"it says {_moment(now)}", "set it: timedatectl set-ntp true")
    elif latest > now + _AHEAD_SECONDS:
        yield fail("clock", f"{newest} was written at {_moment(latest)}, and now it is {_moment(now)}: the clock was "
                   "set back, or was wrong then", "set it right (timedatectl set-ntp true); else schedules and "
                   f"retention wait for {(latest - now) / 3600:.1f} hours")
    elif _is_unsynchronised():
        yield warn("clock", f"it says {_moment(now)}, and nobody keeps it", "timedatectl set-ntp true")
    else:
        yield ok("clock", f"{_moment(now)}, kept in time")


def _is_unsynchronised() -> bool:
    """Whether the kernel says that its clock is not disciplined (adjtimex(2), which sets nothing with modes 0)."""
    timex = (ctypes.c_byte * _TIMEX_BYTES)()
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) == -1:
            return False
    except AttributeError:
        return False
    return bool(int.from_bytes(bytes(timex[_STATUS_AT:_STATUS_AT + 4]), "little", signed=True) & _STA_UNSYNC)


def limits(subject: Subject) -> Iterator[Finding]:
    """Open files and file notices: each service raises its own limit up to the hard one."""
    wrong = 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEW_DESCRIPTORS:
        wrong += 1
        yield warn("limits", f"a process may have {hard} files open", f"ulimit -Hn {_FEW_DESCRIPTORS} before "
                   "supervisord is started (/etc/security/limits.conf)")
    size_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size_bytes != resource.RLIM_INFINITY:
        wrong += 1
        yield warn("limits", f"no file may become larger than {size_bytes / _GIB:.1f} GiB", "ulimit -f unlimited "
                   "before supervisord is started")
    for name, needed, what in (("max_user_watches", _folders(subject.home.inbox), "folders of the inbox"),
                               ("max_user_instances", _FEW_INOTIFY_INSTANCES, "listeners for changes")):
        allowed = _number(Path("/proc/sys/fs/inotify") / name)
        if allowed is not None and allowed < needed:
            wrong += 1
            yield warn("limits", f"fs.inotify.{name} is {allowed}, and {needed} {what} may be wanted: new files are "
                       "found by the sweep alone", f"sysctl fs.inotify.{name}={max(2 * needed, 8192)}")
    if not wrong:
        files = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
        yield ok("limits", f"{files} open files")


def _folders(inbox: Path) -> int:
    """How many folders the inbox has, up to a limit; links are not followed."""
    found, waiting = 1, [inbox]
    while waiting and found < _MOST_FOLDERS:
        try:
            with os.scandir(waiting.pop()) as entries:
                inside = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        found += len(inside)
        waiting += inside
    return found


def _number(path: Path) -> int | None:
    text = _first_line(path)
    return int(text) if text.isdecimal() else None


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _moment(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
