"""``trainq backup``: the journal and what it needs, copied elsewhere while all goes on; and a home made of that."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import msgspec

from trainq import backups, objects, pruning
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, moment, size, table
from trainq.cli.tasking import add_wait, ask
from trainq.errors import DamageError, NotFoundError, TrainqError, UsageError
from trainq.messages import BackupTask
from trainq.pruning import Verdict
from trainq.retention.rules import Buckets


def _configure(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = commands.add_parser("create", help="make one in this folder, while all goes on")
    add_wait(create)
    listed = commands.add_parser("list", help="those in this folder, newest first")
    verify = commands.add_parser("verify", help="prove every byte of the newest, or of one")
    restore = commands.add_parser("restore", help="make a home of the newest, or of one")
    prune = commands.add_parser("prune", help="let old ones go, and what only they hold; what any rule keeps stays")
    for rule, kept in (("last", "the newest ones"), ("daily", "the newest of each day, of so many days"),
                       ("weekly", "... of each week"), ("monthly", "... of each month")):
        prune.add_argument(f"--{rule}", type=types.natural, default=0, metavar="N", help=kept)
    prune.add_argument("--plan", action="store_true", help="only say what would go, and why; changes nothing")
    for action in (create, listed, verify, restore, prune):
        action.add_argument("folder", type=Path, metavar="FOLDER")
    restore.add_argument("home", type=Path, metavar="HOME", help="which must not exist")
    for action in (verify, restore):
        action.add_argument("--name", type=types.text, default="", help="b000000123-0a1b2c3d, as the list has it")
    for action in commands.choices.values():
        add_json(action)


def _run(arguments: Namespace, context: Context) -> int:
    store = arguments.folder.absolute()
    match arguments.action:
        case "create":
            return ask(context, BackupTask(destination=str(store)), wait=arguments.wait)
        case "list":
            return _list(context, store)
        case "verify":
            return _verify(context, store, arguments.name)
        case "prune":
            rules = Buckets(last=arguments.last, daily=arguments.daily, weekly=arguments.weekly,
                            monthly=arguments.monthly)
            return _prune(context, store, rules, only_plan=arguments.plan)
        case _:
            return _restore(context, store, arguments.name, arguments.home.absolute())


def _list(context: Context, store: Path) -> int:
    console, rows = context.console, list[list[str]]()
    documents: list[dict[str, Any]] = []
    for path in backups.list_backups(store):
        try:
            found = backups.find(store, path.name)
        except TrainqError as error:
            documents.append({"backup": path.name, "error": str(error)})
            rows.append([path.name, "", "", "", "", str(error)])
            continue
        documents.append({"backup": found.name, "size_bytes": found.size_bytes, **msgspec.to_builtins(found.facts)})
        rows.append([found.name, size(found.size_bytes), str(found.facts.jobs), found.facts.checkpoint,
                     moment(found.facts.created_at), found.facts.created_by])
    if console.json:
        console.emit({"backups": documents})
        return 0
    columns = [Column("backup"), Column("size", right=True, spare=True), Column("files", right=True, spare=True),
               Column("model", spare=True), Column("made", spare=True), Column("by", flexible=True)]
    for line in table(columns, [[printable(cell) for cell in row] for row in rows], console.width):
        console.line(line)
    return 0


def _verify(context: Context, store: Path, name: str) -> int:
    found = backups.find(store, name)
    with objects.writing(store):
        wrong = backups.verify(store, found.name, lambda _: None)
    if wrong:
        raise DamageError(found.name, "; ".join(wrong), mend="make another one, which copies what is missing again")
    if context.console.json:
        context.console.emit({"backup": found.name, "size_bytes": found.size_bytes})
    else:
        context.console.line(f"{found.name} is whole, {size(found.size_bytes)}")
    return 0


def _restore(context: Context, store: Path, name: str, root: Path) -> int:
    found = backups.find(store, name)
    try:
        written = backups.restore(store, found, root, lambda _: None)
    except DamageError as error:
        if found.path.is_dir():
            raise
        raise NotFoundError(f"{found.name} was pruned meanwhile", mend="restore a newer one") from error
    if context.console.json:
        context.console.emit({"backup": found.name, "home": str(root), "size_bytes": written})
    else:
        context.console.line(printable(str(root)))
        context.console.say("start trainq with TRAINQ_HOME set to it, and it goes on where it was; let no other home "
                            "of this line run")
    return 0


def _prune(context: Context, store: Path, rules: Buckets, *, only_plan: bool) -> int:
    console = context.console
    if store.resolve().is_relative_to(context.home.root.resolve()):
        raise UsageError(f"{store} is in the home itself, where no backup is",
                         mend="name the folder that trainq backup create was given")
    if only_plan:
        done = pruning.plan(store, rules, lambda _: None)
    else:
        pruning.refuse_without_folder(store)  # in which the lock lies
        with objects.writing(store):
            done = pruning.apply(store, rules, lambda _: None)
    if console.json:
        console.emit({"backups": msgspec.to_builtins(done.verdicts), "going": len(done.going),
                      "freed_bytes": done.freed_bytes, "objects_stay": done.objects_stay})
        return 0
    columns = [Column(""), Column("backup"), Column("made", spare=True),
               Column("only it holds", right=True, spare=True),
               Column("why", flexible=True)]
    rows = [["keep" if verdict.keep else "remove", verdict.backup, moment(verdict.at) if verdict.at else "",
             size(verdict.size_bytes), printable("; ".join(_reasons(verdict)))] for verdict in done.verdicts]
    for line in table(columns, rows, console.width):
        console.line(line)
    went = "would go" if only_plan else "went"
    console.say(f"{len(done.going)} of {len(done.verdicts)} {went}, {size(done.freed_bytes)}"
                + (f"; {done.objects_stay}" if done.objects_stay else ""))
    return 0


def _reasons(verdict: Verdict) -> list[str]:
    return [*verdict.reasons, *([f"it is damaged: {verdict.fault}"] if verdict.fault else [])]


COMMANDS = {"backup": Command(_configure, _run)}
