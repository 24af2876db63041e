"""``trainq snapshot``: take, list, show, verify and export second copies of the model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import msgspec

from trainq import snapshots
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, facts, moment, size, table
from trainq.cli.tasking import add_pins, add_wait, ask, change_pin
from trainq.errors import TrainqError
from trainq.jobs import Store
from trainq.messages import CopyTask, SnapshotTask, VerifyTask
from trainq.snapshots import Snapshot


def _configure(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = commands.add_parser("create", help="take one (of the newest generation)")
    create.add_argument("--generation", type=types.generation, metavar="NAME",
                        help="of this generation, g000042-s00001200")
    verify = commands.add_parser("verify", help="prove every byte of one, or of all")
    verify.add_argument("name", type=types.generation, nargs="?", metavar="NAME")
    copy = commands.add_parser("copy", help="to another place, and prove it there: one, or all that are not there yet")
    copy.add_argument("destination", type=types.text, metavar="URL", help="of fsspec's, or a path")
    copy.add_argument("name", type=types.generation, nargs="?", metavar="NAME")
    add_wait(create, verify, copy)
    commands.add_parser("list", help="all of them, newest generation first")
    show = commands.add_parser("show", help="what is in one")
    show.add_argument("name", type=types.generation, metavar="NAME")
    export = commands.add_parser("export", help="as a plain folder that transformers loads")
    export.add_argument("name", type=types.generation, metavar="NAME")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="which must not exist")
    add_pins(commands, "keep one, whatever the rules of retention say")
    for action in commands.choices.values():
        add_json(action)


def _run(arguments: Namespace, context: Context) -> int:
    match arguments.action:
        case "create":
            return ask(context, SnapshotTask(generation=arguments.generation or ""), wait=arguments.wait)
        case "verify":
            return ask(context, VerifyTask(snapshot=arguments.name or ""), wait=arguments.wait)
        case "copy":
            where = arguments.destination if "://" in arguments.destination else str(
                Path(arguments.destination).absolute())
            return ask(context, CopyTask(snapshot=arguments.name or "", destination=where), wait=arguments.wait)
        case "list":
            return _list(context)
        case "pin":
            return change_pin(context, Store.SNAPSHOTS, arguments.name, arguments.reason)
        case "unpin":
            return change_pin(context, Store.SNAPSHOTS, arguments.name, None)
        case "show":
            return _show(context, arguments.name)
        case _:
            return _export(context, arguments.name, arguments.folder)


def _list(context: Context) -> int:
    console, rows = context.console, list[list[str]]()
    documents: list[dict[str, Any]] = []
    for path in snapshots.list_snapshots(context.home.snapshots):
        try:
            found = snapshots.read(path)
        except TrainqError as error:
            documents.append({"snapshot": path.name, "error": str(error)})
            rows.append([path.name, "", "", "", str(error), ""])
            continue
        documents.append(_document(found))
        rows.append([found.name, size(found.size_bytes), str(found.facts.jobs), moment(found.facts.created_at),
                     found.facts.created_by, ", ".join(found.marks)])
    if console.json:
        console.emit({"snapshots": documents})
        return 0
    columns = [Column("snapshot"), Column("size", right=True, spare=True), Column("jobs", right=True, spare=True),
               Column("taken", spare=True), Column("by", flexible=True), Column("marked", flexible=True)]
    for line in table(columns, [[printable(cell) for cell in row] for row in rows], console.width):
        console.line(line)
    return 0


def _document(found: Snapshot) -> dict[str, Any]:
    return {"snapshot": found.name, "size_bytes": found.size_bytes, **msgspec.to_builtins(found.facts)}


def _show(context: Context, name: str) -> int:
    found = snapshots.find(context.home.snapshots, name)
    if context.console.json:
        context.console.emit({**_document(found), "files": msgspec.to_builtins(found.manifest.files)})
        return 0
    told = found.facts
    pairs = [("snapshot", found.name), ("size", size(found.size_bytes)), ("jobs", str(told.jobs)),
             ("marked", ", ".join(found.marks)),
             ("parent", told.parent), ("taken", moment(told.created_at)), ("by", told.created_by),
             *((f"checkpoint {key}", str(value)) for key, value in told.checkpoint.items()
               if not isinstance(value, dict)),
             *((f"file {file}", f"{size(record.size_bytes)}  {record.blake3}")
               for file, record in found.manifest.files.items())]
    for line in facts(pairs, context.console.width):
        context.console.line(line)
    return 0


def _export(context: Context, name: str, folder: Path) -> int:
    store = context.home.snapshots
    written = snapshots.export(store, snapshots.find(store, name), folder, lambda _: None)
    if context.console.json:
        context.console.emit({"snapshot": name, "folder": str(folder), "size_bytes": written})
    else:
        context.console.line(printable(str(folder)))
    return 0


COMMANDS = {"snapshot": Command(_configure, _run)}
