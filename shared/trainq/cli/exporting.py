"""``trainq export``: the file of a job, byte for byte as it was accepted."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from trainq import files, ingest
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.client import BrokerClient
from trainq.errors import UsageError
from trainq.ids import new_request_id
from trainq.messages import JobDetail, JobView, ShowJob

_CHUNK_BYTES = 1 << 20


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("job", type=types.job_id, metavar="JOB", help="train-7, or 7 for short")
    parser.add_argument("file", nargs="?", default="", metavar="FILE",
                        help="where to put it: a file, a folder, or - for stdout (default: its own name, here)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def _run(arguments: Namespace, context: Context) -> int:
    console = context.console
    with BrokerClient(context.home) as broker:
        job = broker.call(ShowJob(request_id=new_request_id(), job=arguments.job), JobDetail).job
    if arguments.file == "-":
        if console.json:
            raise UsageError("--json and the file itself cannot both go to stdout", mend="name a file")
        with ingest.proven(context.home, job.digest, job.id) as source:
            shutil.copyfileobj(source, sys.stdout.buffer, _CHUNK_BYTES)
        sys.stdout.buffer.flush()
        return 0
    path = _destination(arguments.file, job)
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", mend="make it first, or name another place")
    if not arguments.force and path.exists():
        raise UsageError(f"{path} is there already", mend="give another name, or --force to replace it")
    with ingest.proven(context.home, job.digest, job.id) as source, files.publish_file(path) as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
    if console.json:
        console.emit({"job": job.id, "file": str(path), "size_bytes": job.size_bytes, "digest": job.digest})
    else:
        console.line(printable(str(path)))
    return 0


def _destination(wanted: str, job: JobView) -> Path:
    # A name comes from outside and may hold anything: only its last part counts here.
    name = Path(job.name).name or f"{job.id}.jsonl"
    path = Path(wanted) if wanted else Path(name)
    return path / name if path.is_dir() else path


COMMANDS = {"export": Command(_configure, _run)}
