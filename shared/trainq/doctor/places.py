"""The home and its file system: that everything is there, is the user's own, and is what trainq's promises need.

Nothing is tried out by writing: the kernel's tables say what a file system is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainq.config import MAX_SOCKET_PATH_BYTES
from trainq.doctor.findings import Finding, Subject, fail, ok, warn

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "virtiofs",
                      "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.glusterfs"})
# No hard links, no permissions.
_FOREIGN = frozenset({"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"})
_VOLATILE = frozenset({"tmpfs", "ramfs"})
_NO_BARRIERS = frozenset({"nobarrier", "barrier=0"})
_OTHERS = 0o077


class Mount(NamedTuple):
    """A mounted file system: where, of what type, with which options."""

    point: str
    type: str
    options: frozenset[str]


def folders(subject: Subject) -> Iterator[Finding]:
    """The home and its folders: there, folders, the user's own, closed to others, writable."""
    root = subject.home.root
    found = _stat(root)
    if found is None:
        yield warn("home", f"there is no {root} yet", "the first start makes it; is TRAINQ_HOME right?")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield fail("home", f"{root} is no folder", "move it away, or set TRAINQ_HOME")
        return
    wrong = list(_folder_faults(subject, found))
    yield from wrong
    if not wrong:
        yield ok("home", f"{root}: all folders are there, and nobody else gets in")


def _folder_faults(subject: Subject, found: os.stat_result) -> Iterator[Finding]:
    root, user = subject.home.root, os.geteuid()
    if found.st_uid != user:
        yield fail("home", f"{root} belongs to user {found.st_uid}, and this is user {user}",
                   f"look as that user, or chown -R {user} {root}")
    if found.st_mode & _OTHERS:
        yield fail("home", f"others may enter {root} (mode {stat.S_IMODE(found.st_mode):04o}): they can read the files "
                   "and order the broker about", f"chmod 700 {root}")
    token = _stat(subject.home.token_file)
    if token is not None and token.st_mode & _OTHERS:
        yield fail("home", f"others may read {subject.home.token_file} (mode {stat.S_IMODE(token.st_mode):04o}), with "
                   "which HTTP takes orders", f"rm {subject.home.token_file}; supervisorctl restart web (which makes "
                   "another one)")
    missing = []
    for folder in subject.home.folders():
        inside = _stat(folder)
        name = folder.relative_to(root) if folder != root else Path()
        if inside is None:
            missing.append(str(name))
        elif not stat.S_ISDIR(inside.st_mode):
            yield fail("home", f"{name} is no folder", f"move {folder} away; the next start makes the folder")
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield fail("home", f"{name} cannot be read and written by this user (mode "
                       f"{stat.S_IMODE(inside.st_mode):04o}, user {inside.st_uid})", f"chmod u+rwx {folder}")
    if missing:
        yield warn("home", f"not there: {', '.join(missing)}", "the next start makes what is missing, empty; if "
                   "something was in it, bring that back first (is a disk not mounted?)")


def file_system(subject: Subject) -> Iterator[Finding]:
    """What the home lies on keeps what fsync has promised, renames and links, and does not go with a reboot."""
    there = _nearest(subject.home.root)
    mount = mount_of(there.resolve(), _read_mounts())
    if mount is None:
        yield warn("file system", f"what {there} lies on cannot be found in {_MOUNTS}")
        return
    what = f"{mount.type} on {mount.point}"
    if "ro" in mount.options:
        yield fail("file system", f"{what} is mounted read-only", "the kernel does so when a disk fails (dmesg); then "
                   f"mount -o remount,rw {mount.point}")
    elif mount.type in _NETWORK:
        yield fail("file system", f"{what} is shared over a network: locks and fsync do not hold there what trainq "
                   "promises", "put the home on a disk of this machine (TRAINQ_HOME)")
    elif mount.type in _FOREIGN:
        yield fail("file system", f"{what} has no hard links and no permissions", "put the home on a file system of "
                   "Linux (TRAINQ_HOME)")
    elif mount.type in _VOLATILE:
        yield warn("file system", f"{what} lies in memory: all is lost with a reboot", "put the home on a disk")
    elif mount.type == "overlay":
        yield warn("file system", f"{what} is the container's own: all is lost with it", "mount a volume for the home")
    elif lacking := sorted(_NO_BARRIERS & mount.options):
        yield warn("file system", f"{what} is mounted with {lacking[0]}: a power cut may lose what was acknowledged",
                   "mount it without")
    else:
        yield ok("file system", what)
    yield from _one_disk(subject)


def _one_disk(subject: Subject) -> Iterator[Finding]:
    """What retention removes is renamed into the trash, which no other file system takes."""
    home = subject.home
    devices = {path.name: found.st_dev for path in (home.checkpoints, home.snapshots, home.trash)
               if (found := _stat(path)) is not None}
    if len(set(devices.values())) > 1:
        yield fail("file system", f"{', '.join(sorted(devices))} lie on different file systems: a copy cannot be moved "
                   "from one to the other", "put them on one")


def socket_paths(subject: Subject) -> Iterator[Finding]:
    """unix(7) has 107 bytes for the path of a socket."""
    run = subject.home.run
    longest = max((subject.home.request_socket, subject.home.event_socket, subject.home.status_socket,
                   run / "picture.sock", subject.supervisor_socket), key=lambda path: len(os.fsencode(path)))
    size_bytes = len(os.fsencode(longest))
    if size_bytes > MAX_SOCKET_PATH_BYTES:
        yield fail("socket paths", f"{longest} has {size_bytes} bytes, and the system allows {MAX_SOCKET_PATH_BYTES}",
                   "choose a shorter path for the home (TRAINQ_HOME) or the checkout")
    else:
        yield ok("socket paths", f"the longest has {size_bytes} of {MAX_SOCKET_PATH_BYTES} bytes")


def standing_files(subject: Subject) -> Iterator[Finding]:
    """Orders that lie in ``control/`` as files, and hold until somebody removes them."""
    try:
        names = sorted(entry.name for entry in os.scandir(subject.home.control) if entry.name.startswith("."))
    except OSError:
        return
    for name in names[:20]:
        if name.startswith((".pause", ".stop")):
            path = subject.home.control / name
            yield warn("orders", f"{path} is there: as long as it is, what it names does nothing", f"rm {path}")


def mount_of(path: Path, table: str) -> Mount | None:
    """The file system that ``path`` lies on, by the kernel's table (proc_pid_mountinfo(5)); the last one mounted."""
    best: Mount | None = None
    for line in table.splitlines():
        left, dash, right = line.partition(" - ")
        fields, behind = left.split(" "), right.split(" ")
        if not dash or len(fields) < 6 or not behind[0]:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        options = frozenset((*fields[5].split(","), *(behind[2].split(",") if len(behind) > 2 else ())))
        if path.is_relative_to(point) and (best is None or len(point) >= len(best.point)):
            best = Mount(point, behind[0], options)
    return best


def _read_mounts() -> str:
    try:
        return _MOUNTS.read_text(errors="replace")
    except OSError:
        return ""


def _nearest(path: Path) -> Path:
    """``path``, or the folder above it that there is."""
    while _stat(path) is None and path != path.parent:
        path = path.parent
    return path


def _stat(path: Path) -> os.stat_result | None:
    """Of what it leads to; None where that is nothing that can be looked at."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
