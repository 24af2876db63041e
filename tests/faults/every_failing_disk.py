"""Whole running services on disks that fill, fail and go read-only, and without descriptors.

``python -m tests.faults.every_failing_disk FOLDER [SCENARIO ...]``; without names: all, about three minutes. The real
services are started, and started again when they end, as supervisord does it. Disks are real (a tmpfs of its own, in a
mount namespace of its own, which needs ``unshare -rm``); ``armed-*`` uses :mod:`trainq.diskfaults` instead. Each
scenario ends with the same proof: every file trained, once, by the checker's word; no file refused or left, no
generation set aside, no attempt used up. One JSON object on stdout: ``scenarios`` with what each has seen, and
``wrong``, which must be empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.sites import SERVICES, Disk, Site, mount, says_full
from trainq.jobs import JobState

# Most of them wait most of the time, for the 30 s for which the trainer holds the queue.
AT_ONCE = 2
# Of one processor, for a service that cannot work: more would be a spin. Measured: below 0.01.
MOST_BUSY = 0.5


def full(site: Site, what: str) -> dict[str, Any]:
    """Full before the first start, with files waiting; and full again in the middle of a training."""
    disk = Disk(site.home.root)
    site.make_folders()
    site.drop("first", 12)
    disk.fill(what)
    site.start(*SERVICES)
    site.wait(lambda: "no room left" in site.said("broker"), "the broker says why it does not start")
    disk.give_room()
    site.wait_trained(1)
    site.drop("second", 240)
    site.wait(lambda: any(job.progress is not None and job.progress.step >= 6 for job in site.jobs()), "it trains")
    disk.fill(what)
    seen = site.wait(lambda: says_full(site.detail("trainer")) and site.detail("trainer"), "the trainer says why")
    busy = site.busy("trainer")
    assert busy < MOST_BUSY, f"the trainer spins: {busy:.2f} of a processor"
    disk.give_room()
    site.drop("third", 8)
    site.prove(3)
    return {"said": seen, "busy": busy}


def read_only(site: Site) -> dict[str, Any]:
    """The folder that each of the three writes is read-only, and one after the other is writable again."""
    site.make_folders()
    site.drop("first", 12)
    seen = {}
    folders = {"watcher": site.home.inbox, "preparer": site.home.cache, "trainer": site.home.checkpoints}
    for folder in folders.values():
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,bind,ro", str(folder))
    site.start(*SERVICES)
    for name, folder in folders.items():
        seen[name] = site.wait(lambda name=name: "ead-only" in site.detail(name) and site.detail(name),
                               f"{name} says why")
        mount("-o", "remount,bind,rw", str(folder))
    site.prove(1)
    return seen


def armed(site: Site, name: str, *faults: str) -> dict[str, Any]:
    """A service under each of the faults until it says so or has ended or has done its work; then without."""
    site.make_folders()
    others = [other for other in SERVICES if other != name]
    site.start(*others)
    seen: dict[str, Any] = {}
    for number, fault in enumerate(faults, 1):
        site.drop(f"f{number}", 8)
        ends = len(site.ends)
        site.start(name, fault=fault)

        def is_met(number: int = number, ends: int = ends) -> str:
            done = sum(job.state is JobState.SUCCEEDED for job in site.jobs()) >= number
            detail = site.detail(name)
            return ("done" if done else f"ended {site.ends[-1]}" if len(site.ends) > ends
                    else detail if detail.startswith("ERROR") or "cannot be taken" in detail else "")

        seen[fault] = site.wait(is_met, f"{name} under {fault}")
        site.stop(name)
        site.start(name)
        site.wait_trained(number)
        site.stop(name)
    site.start(name)
    site.prove(len(faults))
    return seen


def descriptors(site: Site, name: str) -> dict[str, Any]:
    """No descriptor is left to a service that runs, and a file waits; then there are some again."""
    site.make_folders()
    site.start(*SERVICES)
    site.drop("first", 8)
    site.wait_trained(1)
    pid = site.running[name].pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    for each in [pid, *_children(pid)]:
        _leave_no_descriptor(each)
    site.drop("second", 240 if name == "trainer" else 8)
    seen = site.wait(lambda: "oo many open files" in site.detail(name) + site.said(name)
                     and (site.detail(name) or site.ends[-1:]), f"{name} says why")
    busy = site.busy(name)
    assert busy < MOST_BUSY, f"{name} spins: {busy:.2f} of a processor"
    for each in [pid, *_children(pid)]:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(each, resource.RLIMIT_NOFILE, (soft, hard))
    site.prove(2)
    return {"said": seen, "busy": busy}


def status_descriptors(site: Site) -> dict[str, Any]:
    """No descriptor is left to the status: it says so, does not spin, and writes its picture again afterwards."""
    site.make_folders()
    site.start("broker", "status")
    site.wait(site.home.status_file.exists, "the picture is there")
    pid = site.running["status"].pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    _leave_no_descriptor(pid)
    seen = site.wait(lambda: "oo many open files" in site.detail("status") and site.detail("status"), "it says why")
    busy = site.busy("status")
    assert busy < MOST_BUSY, f"the status spins: {busy:.2f} of a processor"
    inode = site.home.status_file.stat().st_ino
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    site.wait(lambda: site.home.status_file.stat().st_ino != inode and site.detail("status") == "RUNNING: ",
              "the picture is written again")
    assert not site.ends
    return {"said": seen, "busy": busy}


def _leave_no_descriptor(pid: int) -> None:
    """The limit is the lowest free number, so that nothing can be opened; less makes poll(2) itself fail (EINVAL)."""
    taken = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
    lowest = min(set(range(len(taken) + 1)) - taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def _children(pid: int) -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for child in found for each in (child, *_children(child))]


def connections(site: Site) -> dict[str, Any]:
    """More clients than the broker has descriptors: libzmq ends it; it comes back, and has what it acknowledged."""
    site.make_folders()
    site.start("watcher", "preparer", "trainer")
    site.start("broker", descriptors=40)
    site.drop("first", 8)
    site.wait_trained(1)
    with _many(site.home.request_socket, 60):
        site.wait(lambda: ("broker", -signal.SIGABRT) in site.ends, "the broker ends for want of a descriptor")
        assert "Too many open files" in site.said("broker")
    assert site.wait(site.jobs, "a client of before is answered again")[0].state is JobState.SUCCEEDED
    site.drop("second", 8)
    site.prove(2)
    return {"ends": site.ends}


@contextlib.contextmanager
def _many(path: Path, number: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(OSError):  # its queue is full, or it has ended
                client.connect(str(path))
        yield


# Places by service, drawn so that each error comes once and for ever: what precedes them is the service's start.
DRAWN = {
    "watcher": ("EIO:4:once", "EIO:9:ever", "EROFS:6:ever", "EMFILE:12:once", "EMFILE:5:ever", "EROFS:15:once",
                "EIO:18:once", "ENOSPC:14:ever"),
    "preparer": ("EIO:4:once", "EIO:7:ever", "EROFS:5:ever", "EMFILE:9:once", "EMFILE:3:ever", "EROFS:12:once",
                 "ENOSPC:8:ever"),
    "trainer": ("EIO:6:once", "EIO:20:ever", "EROFS:9:ever", "EMFILE:4:ever", "EMFILE:14:once"),
}

SCENARIOS: dict[str, Callable[[Site], dict[str, Any]]] = {
    "full-bytes": lambda site: full(site, "bytes"),
    "full-inodes": lambda site: full(site, "inodes"),
    "read-only": read_only,
    **{f"armed-{name}": lambda site, name=name: armed(site, name, *DRAWN[name]) for name in DRAWN},
    **{f"descriptors-{name}": lambda site, name=name: descriptors(site, name) for name in DRAWN},
    "descriptors-status": status_descriptors,
    "connections": connections,
}


def run_one(folder: Path, name: str) -> dict[str, Any]:
    """One scenario in this process's own mounts."""
    site, began = Site(folder / name), time.monotonic()
    seen: dict[str, Any] = {}
    wrong = ""
    try:
        seen = SCENARIOS[name](site)
    except Exception:
        wrong = f"{name}: {traceback.format_exc()}"
        with contextlib.suppress(OSError):
            shutil.copytree(site.home.logs, folder / f"{name}-logs")
    finally:
        site.close()
    return {"seen": {**seen, "seconds": round(time.monotonic() - began, 1)}, "wrong": wrong}


def run_all(folder: Path, names: list[str]) -> dict[str, Any]:
    """Each in a process with mounts of its own, which go with it however it ends; :data:`AT_ONCE` at a time."""
    waiting, running, found = list(names), dict[str, subprocess.Popen[bytes]](), dict[str, Any]()
    while waiting or running:
        if waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            running[name] = subprocess.Popen(
                ["unshare", "-rm", sys.executable, "-m", "tests.faults.every_failing_disk", "--one", str(folder), name],
                stdout=subprocess.PIPE)
            continue
        name = next(iter(running))
        said, _ = running.pop(name).communicate()
        found[name] = json.loads(said) if said else {"seen": {}, "wrong": f"{name} ended without a word"}
        sys.stderr.write(f"{name} {found[name]['seen']}\n")
        if not found[name]["wrong"]:
            shutil.rmtree(folder / name, ignore_errors=True)
    return {"scenarios": {name: each["seen"] for name, each in found.items()},
            "wrong": [each["wrong"] for each in found.values() if each["wrong"]]}


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(run_one(Path(sys.argv[2]), sys.argv[3]), default=str))
    else:
        print(json.dumps(run_all(Path(sys.argv[1]), sys.argv[2:] or list(SCENARIOS)), indent=1))
