"""How a service begins and ends: configuration, folders, lock, log, what its earlier lives say, an honest exit code.

Order at start: configuration (all mistakes at once), umask, folders, death signal, lock, log, what killed lives left
half written in ``run/`` and the home itself. The lock makes each
service single in its home; a second one is refused with the first one's pid. One that is not to work by the
configuration, or has ended too often by its own doing (``ends``), stays up PAUSED instead, and none of its own code
runs.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable

from trainq import config, crashpoints, diskfaults, files, locks, logs
from trainq.clock import SystemClock
from trainq.config import Configuration
from trainq.errors import StorageError, StorageFullError, TrainqError
from trainq.messages import Lifecycle, PauseCause
from trainq.service.ends import Ends, Record
from trainq.service.peer import Peer
from trainq.service.process import Process, die_with_supervisor

_DESCRIPTORS = 65536
# What it is told by is a signal.
_REST_SECONDS = 60.0
_BROKER = "broker"

Body = Callable[[Process], int | None]


def run(name: str, body: Body) -> int:
    """Run a service to its end and return its exit code. Errors go to stderr, which supervisord keeps."""
    os.umask(0o077)
    # libzmq ends a process that cannot accept a connection: the usual 1024 descriptors are some 400 clients.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        configuration = config.load(os.environ, config.project_root())
        for folder in configuration.home.folders():
            files.make_directory(folder)
        crashpoints.arm_from_environment(os.environ, name)
        diskfaults.arm_from_environment(os.environ)
        die_with_supervisor()
        lock = locks.acquire_lock(configuration.home.run / f"{name}.lock", name)
    except TrainqError as error:
        sys.stderr.write(f"trainq {name}: {error}\n")
        return error.exit_code
    log = logs.open_log(name, configuration.home.logs, configuration.settings.log.level)
    record = Record(configuration.home.run, name)
    process = Process(name, configuration, log, SystemClock(), lock=lock, record=record)
    log.info("started", session=process.session, home=str(configuration.home.root))
    stacks = record.open()
    if stacks:
        log.warning("earlier_life_crashed", stacks=stacks[:16_000])
    code = _live(process, record, body)
    log.info("ended", exit_code=code)
    log.close()
    lock.release()
    return code


def _live(process: Process, record: Record, body: Body) -> int:
    """The life itself, and a record of how it ended if that was not by order."""
    try:
        # Each service writes into the first, web its token, and status into the second; whoever was killed in that may
        # never do it again.
        files.sweep_temporaries(process.home.run, process.home.root)
        _stand_by(process, record)
        process.begin_work()
        code = 0 if process.stopping else body(process) or 0
        how = record.ends.by_itself(f"exit {code}")
    except TrainqError as error:
        code, how = _ended_by_error(process, error, error.exit_code), _blame(record.ends, error)
    except OSError as error:
        # The machine's, not ours: no descriptor for a socket, a disk that cannot be read.
        code, how = _ended_by_error(process, error, StorageError.exit_code), record.ends.by_machine(str(error))
    except Exception as error:
        process.log.error("ended_by_bug")
        _keep(process, record, record.ends.by_itself(f"{type(error).__name__}: {error}"))
        raise
    _keep(process, record, how)
    return code


def _keep(process: Process, record: Record, how: Ends) -> None:
    """Who was told to stop has not ended by itself, and is begun again by somebody's hand."""
    record.put(Ends() if process.told_to_stop else how)


def _blame(ends: Ends, error: TrainqError) -> Ends:
    passes = isinstance(error, StorageError | StorageFullError)
    return ends.by_machine(str(error)) if passes else ends.by_itself(str(error))


def _ended_by_error(process: Process, error: Exception, exit_code: int) -> int:
    process.log.error("ended_by_error", error=str(error), exit_code=exit_code)
    sys.stderr.write(f"trainq {process.name}: {error}\n")
    return exit_code


def _stand_by(process: Process, record: Record) -> None:
    """Rest for as long as the service is not to begin its work; what ends this is its time, or a signal."""
    ends, name = record.ends, process.name
    unwanted = why_unwanted(process.configuration, name)
    paused = ends.why_paused(name)
    if paused:
        process.log.error("paused_by_itself", reason=paused)
    if not (unwanted or paused or ends.wait_seconds):
        return
    process.rests = process.until_told = True
    # Nobody takes the broker's heartbeats while it rests itself.
    peer = None if name == _BROKER else Peer(process)
    try:
        while not process.stopping and (unwanted or paused):
            process.rest(unwanted or paused, _REST_SECONDS,
                         PauseCause.DISABLED if unwanted else PauseCause.GIVEN_UP)
        if not process.stopping:
            process.rest(f"it has ended by itself or the machine's fault ({ends.reason}), and begins again in "
                         f"{ends.wait_seconds:.0f} s", ends.wait_seconds, PauseCause.HINDERED)
    finally:
        if process.stopping:
            process.set_state(Lifecycle.STOPPED)
        else:
            process.set_state(Lifecycle.INITIALIZING)
            process.rests = process.until_told = False
        if peer is not None:
            peer.close()


def why_unwanted(configuration: Configuration, name: str) -> str:
    """Why the configuration wants no work of this service; the broker is always wanted."""
    return "" if name == _BROKER else config.why_unwanted(configuration.settings.services, name)
