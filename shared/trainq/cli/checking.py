"""``trainq fsck``: prove what the home holds, while the broker is stopped."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.errors import AlreadyRunningError, DamageError, NewerFormatError, NotFoundError

if TYPE_CHECKING:
    from trainq.config import Home
    from trainq.journal import Journal, Queries

_WAITING = ("held", "queued", "running")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--fast", action="store_true", help="only look at sizes; do not read files and weights")


def _run(arguments: Namespace, context: Context) -> int:
    from trainq import files, locks
    from trainq.journal import Journal

    home, console = context.home, context.console
    if not home.journal.exists():
        raise NotFoundError(f"{home.root} has no journal", mend="is TRAINQ_HOME right?")
    try:
        files.make_directory(home.run)  # a home that was made of a backup, and never started, has none yet
        lock = locks.acquire_lock(home.run / "broker.lock", "broker")
    except AlreadyRunningError as error:
        error.mend = "stop it first: supervisorctl stop broker"
        raise
    try:
        # Nothing is changed here, not even the format of the tables.
        journal = Journal.open(home.journal, fold_anew=False)
        try:
            findings, notes, counts = _prove(home, journal, fast=arguments.fast)
        finally:
            journal.close()
    finally:
        lock.release()
    if console.json:
        console.emit({"clean": not findings, "findings": findings, "notes": notes, "counts": counts})
    else:
        for line in notes:
            console.line(f"note: {line}")
        for line in findings:
            console.line(f"WRONG: {line}")
        parts = " + ".join(f"{state} {number}" for state, number in counts.items() if state != "accepted")
        console.line(f"accepted {counts['accepted']} = {parts}")
        console.line("clean" if not findings else f"{len(findings)} things are wrong")
    return DamageError.exit_code if findings else 0


def _prove(home: Home, journal: Journal, *, fast: bool) -> tuple[list[str], list[str], dict[str, int]]:
    from trainq.journal import Queries
    from trainq.journal.proving import prove

    findings = [f"{finding.place}: {finding.what}" for finding in prove(journal)]
    queries = Queries(journal)
    findings += _data(home, journal, queries, fast=fast)
    wrong, notes = _checkpoints(home, journal, queries, fast=fast)
    by_state = queries.counts().get("train", {})
    counts = {"accepted": queries.line().next_number - 1, **dict(sorted(by_state.items()))}
    if sum(by_state.values()) != counts["accepted"]:
        findings.append(f"{counts['accepted']} files were accepted, and {sum(by_state.values())} are accounted for")
    return [*findings, *wrong], notes, counts


def _data(home: Home, journal: Journal, queries: Queries, *, fast: bool) -> list[str]:
    """What is missing or changed among the files of jobs that wait, run or are trained; retention may have let it go.
    """
    from trainq import ingest, manifests
    from trainq.journal import enclosing

    found = []
    states = ", ".join(f"'{state}'" for state in (*_WAITING, "succeeded"))
    for name, digest, size_bytes in journal.connection.execute(
            f"SELECT id, digest, size_bytes FROM jobs WHERE kind='train' AND state IN ({states}) ORDER BY key"):
        if queries.is_dropped(digest):
            continue
        if not ingest.is_stored(home, digest, size_bytes):
            found.append(f"{name}: its file {digest} is not in data/, or has another size")
        elif not fast and manifests.digest_file(ingest.data_path(home, digest)) != digest:
            found.append(f"{name}: its file {digest} has changed")
    for digest, size_bytes, _ in enclosing.enclosed_files(journal.connection):
        if not ingest.is_stored(home, digest, size_bytes):
            found.append(f"{digest}, which shards are made with, is not in data/, or has another size")
        elif not fast and manifests.digest_file(ingest.data_path(home, digest)) != digest:
            found.append(f"{digest}, which shards are made with, has changed")
    return found


def _checkpoints(home: Home, journal: Journal, queries: Queries, *,
                 fast: bool) -> tuple[list[str], list[str]]:
    from trainq import checkpoints, manifests

    wrong: list[str] = []
    notes = [f"generation {name} did not verify and was set aside"
             for name, _ in checkpoints.list_set_aside(home.checkpoints)]
    newest = 0
    for path in checkpoints.list_generations(home.checkpoints):
        try:
            facts: dict[str, Any] = (manifests.read(path, checkpoints.KIND) if fast
                                     else checkpoints.verify_alone(path).manifest).facts
        except DamageError as error:
            wrong.append(str(error))
            continue
        except NewerFormatError as error:
            # Nothing in it can be proven here, and nothing of it is lost: the trainer waits, too.
            wrong.append(str(error))
            named = checkpoints.parse_name(path.name)
            newest = max(newest, named.generation if named is not None else 0)
            continue
        newest = max(newest, int(facts["generation"]))
        weights = facts.get("adapter_of", "")
        if weights and not (home.checkpoints / weights).is_dir():
            wrong.append(f"{weights}, the weights under the adapter in {path.name}, is missing: bring it back")
        if int(facts["journal_seq"]) > journal.head_seq:
            wrong.append(f"{path.name} has seen the journal's event {facts['journal_seq']}, and it ends at "
                         f"{journal.head_seq}: it is older than the checkpoints")
    damaged = {name.generation for name, _ in checkpoints.list_set_aside(home.checkpoints)}
    damaged |= {name.generation for path in checkpoints.list_generations(home.checkpoints)
                if (name := checkpoints.parse_name(path.name)) is not None}
    wrong += [f"{row.id} is trained in generation {row.generation}, and none after {newest} verifies ("
              f"{'the trainer will train it again' if row.generation in damaged else 'it is missing: bring it back'})"
              for row in queries.uncovered(newest)]
    return wrong, notes


COMMANDS = {"fsck": Command(_configure, _run)}
