"""The checker says yes to a true home, and to each lie in it no: every check is seen to fail."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import msgspec
import pytest

from tests.unit.trainq.ml import promised
from trainq import checkpoints, jobs, manifests
from trainq.config import Home, project_root
from trainq.journal import Journal
from trainq.journal.store import GENESIS, chain
from trainq.ml import rederiving
from trainq_checker import enclosed, reading
from trainq_checker.__main__ import main
from trainq_checker.reading import BrokenError

RECORD_BYTES = 20


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a history, its receipts, and what an undisturbed run makes of it."""
    root = tmp_path_factory.mktemp("checked")
    promised.tell(root)
    rederiving.rederive(Home(root / "home"), Home(root / "driver"), model_path=None, seed=None)
    return root


@pytest.fixture
def root(told: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    return Path(shutil.copytree(told, tmp_path / "root", symlinks=True))


def check(root: Path, *options: str) -> tuple[int, dict[str, str], str]:
    """(exit code, what each failed check said, the last line)."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main([str(root / "home"), "--driver", str(root / "driver"), "--receipts", str(root / "receipts.jsonl"),
                     *options])
    failed = dict(re.findall(r"^FAIL (\w+): (.*)$", said.getvalue(), re.MULTILINE))
    return code, failed, said.getvalue().splitlines()[-1]


def caught(root: Path, name: str, words: str, *options: str, also: tuple[str, ...] = ()) -> None:
    """The lie is caught by the check ``name`` with ``words``, and by none but ``also``."""
    code, failed, last = check(root, *options)
    assert code == 1
    assert last == f"verdict: broken ({', '.join(failed)})"
    assert re.search(words, failed.get(name, "")), failed
    assert failed.keys() <= {name, *also}, failed


def newest(root: Path, back: int = 0) -> Path:
    return checkpoints.list_generations(root / "home" / "checkpoints")[back]


def reseal(folder: Path) -> None:
    """Make the manifest fit again: a lie that digests cannot show."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()
    manifests.seal(folder, checkpoints.KIND, manifest["facts"])


def change_facts(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "manifest.json").read_bytes())["facts"] | changes
    (folder / "manifest.json").unlink()
    manifests.seal(folder, checkpoints.KIND, facts)


def journal(root: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(root / "home" / "journal.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=delete")
    return connection


def forge(root: Path, change: Callable[[list[tuple[float, bytes]]], list[tuple[float, bytes]]]) -> None:
    """Change the events and chain them anew, as a bug (and not damage) would have written them."""
    connection = journal(root)
    events = change(list(connection.execute("SELECT at, body FROM events ORDER BY seq")))
    connection.execute("DELETE FROM events")
    previous = GENESIS
    for seq, (at, body) in enumerate(events, start=1):
        fields = msgpack.unpackb(body)
        previous = chain(previous, seq, at, body)
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
                           (seq, at, fields["type"], fields.get("job"), body, previous))
    connection.close()


def is_event(body: bytes, type_: str, job: str = "") -> bool:
    fields = msgpack.unpackb(body)
    return fields["type"] == type_ and job in ("", fields.get("job"))


def append(root: Path, *events: jobs.AnyEvent) -> None:
    opened = Journal.open(root / "home" / "journal.db")
    with opened.transaction():
        for event in events:
            opened.append(event, 2.5)
    opened.close()


@pytest.fixture
def untouched(told: Path) -> Iterator[None]:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in told.rglob("*")}
    yield
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in told.rglob("*")} == before


@pytest.mark.usefixtures("untouched")
def test_a_true_home_is_as_promised_and_is_only_read(told: Path) -> None:
    assert check(told) == (0, {}, "verdict: as promised (11 checks)")


def enclosed_pack(root: Path) -> Path:
    (pack,) = {each["digest"] for event in reading.read_journal(root / "home").events
               for each in event.fields.get("enclosed", ())}
    return root / "home" / "data" / pack[:2] / pack


def test_a_pack_that_is_gone_or_another_is_found(root: Path) -> None:
    pack = enclosed_pack(root)
    content = pack.read_bytes()
    pack.write_bytes(content.replace(b"blue", b"blie"))
    caught(root, "enclosed", "train-1: .*is not the content of that digest")
    pack.unlink()
    caught(root, "enclosed", "train-1: .*is not in data/")


def test_replayed_rows_that_are_not_the_pack_s_are_found(root: Path) -> None:
    """The rows of a shard as its lines say, whatever its manifest says."""
    found = [event.fields for event in reading.read_journal(root / "home").events if event.type == "JobPrepared"]
    prepared = next(fields for fields in found if fields["enclosed"])
    shard, pack = root / "home" / "cache" / prepared["shard"], enclosed_pack(root).read_bytes()
    data = {"replay_fraction": 0.3}
    assert enclosed.check_replayed(shard, pack, prepared, data) == 2
    for other, words, less in ((b"", "not that of the pack", data), (pack[1:], "not that of the pack", data),
                               (pack, "its report says 2", {"replay_fraction": 0.1}),
                               (pack, "held out", {**data, "held_out_fraction": 1.0})):
        with pytest.raises(BrokenError, match=words):
            enclosed.check_replayed(shard, other, prepared, less)


def test_it_imports_nothing_of_trainq() -> None:
    code = ("import sys, trainq_checker.checks; "
            "print([name for name in sys.modules if name.split('.')[0] in ('trainq', 'msgspec', 'orjson', 'torch')])")
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(project_root() / "shared")})
    assert ended.stdout.strip() == "[]"


def test_a_write_ahead_log_is_read_too(root: Path) -> None:
    """As a killed broker leaves it: the last events are in the log alone."""
    opened = Journal.open(root / "home" / "journal.db")
    opened.connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    with opened.transaction():
        opened.append(jobs.DuplicateSubmitted(job="train-1", request_id="late", request_digest="2" * 64), 2.5)
    assert (root / "home" / "journal.db-wal").stat().st_size > 0
    left = root / "left"
    left.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        (left / name).write_bytes((root / "home" / name).read_bytes())
    opened.close()
    for name in ("journal.db", "journal.db-wal"):
        (root / "home" / name).write_bytes((left / name).read_bytes())
    first = json.loads((root / "receipts.jsonl").read_text().splitlines()[0])
    append_to_receipts(root, {**first, "request_id": "late"})
    assert check(root)[0] == 0


def append_to_receipts(root: Path, receipt: dict[str, str]) -> None:
    with (root / "receipts.jsonl").open("a") as stream:
        stream.write(json.dumps(receipt) + "\n")


# --------------------------------------------------------------------------------------------------------- the journal

def test_a_dropped_event(root: Path) -> None:
    with journal(root) as connection:
        connection.execute("DELETE FROM events WHERE type='LeaseEnded' AND seq=("
                           "SELECT min(seq) FROM events WHERE type='LeaseEnded')")
    code, failed, _ = check(root)
    assert code == 1
    assert re.search(r"event \d+ is missing", failed["chain"])


def test_a_changed_byte_of_a_body(root: Path) -> None:
    with journal(root) as connection:
        seq, body = connection.execute("SELECT seq, body FROM events WHERE type='JobCancelled' AND job LIKE 'train%'"
                                       ).fetchone()
        connection.execute("UPDATE events SET body=? WHERE seq=?", (body.replace(b"test", b"tess"), seq))
    caught(root, "chain", rf"event {seq} \(JobCancelled\) is not what its hash says")


def test_a_column_that_contradicts_its_body(root: Path) -> None:
    with journal(root) as connection:
        connection.execute("UPDATE events SET job='train-2' WHERE type='JobCancelled' AND job='train-4'")
    caught(root, "chain", "its columns say JobCancelled train-2")


def test_a_journal_that_lost_its_end(root: Path) -> None:
    with journal(root) as connection:
        connection.execute("DELETE FROM events WHERE seq > (SELECT max(seq) FROM events WHERE type='LeaseGranted') - 1")
    code, failed, _ = check(root)
    assert code == 1
    assert "the journal ends at" in failed["chain"]
    assert failed.keys() >= {"chain", "ends", "sum", "lineage"}


def test_a_second_success(root: Path) -> None:
    def twice(events: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        return [*events, next(event for event in events if is_event(event[1], "JobSucceeded", "train-1"))]

    forge(root, twice)
    caught(root, "ends", "train-1 ended twice: succeeded", also=("lineage",))


def test_an_uncovered_job_may_succeed_again(root: Path) -> None:
    append(root, jobs.JobUncovered(job="train-5", generation=9, reason="lost"),
           jobs.LeaseGranted(job="train-5", worker="w", session="s2", attempt=2),
           jobs.JobSucceeded(job="train-5", result={}))
    assert check(root)[0] == 0


@pytest.mark.parametrize("end", [None, jobs.JobCancelled(job="train-5", reason="x"),
                                 jobs.JobQuarantined(job="train-5", reason="x")])
def test_the_line_may_be_put_into_the_middle_of_any_job(root: Path, end: jobs.AnyEvent | None) -> None:
    append(root, jobs.JobUncovered(job="train-5", generation=9, reason="lost"), *([end] if end is not None else []),
           jobs.JobUncovered(job="train-5", generation=0, reason="restored into its middle"),
           jobs.LeaseGranted(job="train-5", worker="w", session="s2", attempt=2),
           jobs.JobSucceeded(job="train-5", result={}))
    assert check(root)[0] == 0


def test_an_open_job_and_its_lease(root: Path) -> None:
    append(root, jobs.JobUncovered(job="train-5", generation=9, reason="lost"),
           jobs.LeaseGranted(job="train-5", worker="w", session="s2", attempt=2))
    caught(root, "ends", "train-5 is running", also=("leases", "sum", "lineage"))
    assert "has no end" in check(root)[1]["leases"]
    assert check(root, "--allow-open")[0] == 0


def test_a_lease_over_another_one(root: Path) -> None:
    def twice(events: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        at = next(at for at, event in enumerate(events) if is_event(event[1], "LeaseGranted", "train-5"))
        return [*events[:at], events[at], *events[at:]]

    forge(root, twice)
    caught(root, "leases", "train-5 was leased .* while it was running")


def test_a_state_that_the_events_do_not_give(root: Path) -> None:
    with journal(root) as connection:
        connection.execute("UPDATE jobs SET state='quarantined' WHERE id='train-1'")
    caught(root, "sum", "train-1 is succeeded by its events and quarantined in the table")


# ------------------------------------------------------------------------------------------------------------ receipts

def test_an_acknowledged_submit_that_is_not_there(root: Path) -> None:
    append_to_receipts(root, {"request_id": "r99", "digest": "0" * 64, "job": "train-99"})
    caught(root, "receipts", "request r99 .* acknowledged and is not there")


def test_a_duplicate_under_the_wrong_job(root: Path) -> None:
    receipts = [json.loads(line) for line in (root / "receipts.jsonl").read_text().splitlines()]
    wrong = {**next(receipt for receipt in receipts if receipt["request_id"] == "again-2"), "job": "train-1"}
    (root / "receipts.jsonl").write_text(json.dumps(wrong) + "\n")
    caught(root, "receipts", "acknowledged as train-1 .* the journal has train-2")


def test_a_submit_that_is_there_twice(root: Path) -> None:
    def twice(events: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        return [*events, next(event for event in events if is_event(event[1], "DuplicateSubmitted"))]

    forge(root, twice)
    caught(root, "receipts", "request again-2 is in the journal 2 times")


# ----------------------------------------------------------------------------------------------------------- the model

def change_ledger(root: Path, change: Callable[[bytes], bytes]) -> None:
    path = newest(root) / "ledger.bin"
    path.write_bytes(change(path.read_bytes()))
    reseal(newest(root))


@pytest.mark.parametrize(("change", "words"), [
    pytest.param(lambda content: content[RECORD_BYTES:], r"train-5: 1 wrong: line \d entered 1 times instead of 2",
                 id="a row is missing"),
    pytest.param(lambda content: content[:RECORD_BYTES] + content, r"line \d entered 3 times instead of 2",
                 id="a row is doubled"),
    pytest.param(lambda content: content[:4] + bytes(16) + content[RECORD_BYTES:], "that is none of the file's",
                 id="a row of another file"),
    pytest.param(lambda content: content[RECORD_BYTES:] + content[:RECORD_BYTES], "out of order", id="out of order"),
    pytest.param(lambda content: content[:-RECORD_BYTES] + b"\x09" + content[-RECORD_BYTES + 1:],
                 r"missing or too many: \[3, 9\]", id="another step"),
    pytest.param(lambda content: content[:-1], "no whole number of records", id="torn"),
])
def test_a_ledger_that_is_wrong(root: Path, change: Callable[[bytes], bytes], words: str) -> None:
    change_ledger(root, change)
    caught(root, "rows", words, also=("driver",))


def test_a_flipped_weight(root: Path) -> None:
    path = newest(root) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    code, failed, _ = check(root)
    assert code == 1
    assert "model.safetensors is not what the manifest says" in failed["generations"]
    reseal(newest(root))
    caught(root, "driver", "^1 wrong: model.safetensors differs$")


def test_lost_generators(root: Path) -> None:
    path = newest(root) / "rng.safetensors"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    reseal(newest(root))
    caught(root, "driver", r"^1 wrong: rng\.safetensors differs$")
    append(root, jobs.JobUncovered(job="train-5", generation=9, reason="lost"),
           jobs.LeaseGranted(job="train-5", worker="w", session="s2", attempt=2),
           jobs.FingerprintChanged(job="train-5", before={"torch": "1"}, after={"torch": "2"}),
           jobs.JobSucceeded(job="train-5", result={}))
    # What computes has changed on the way: bits are not promised then.
    assert check(root)[0] == 0
    caught(root, "fingerprint", "^1 wrong: 1 changes of what computes are in the journal$", "--strict")


def test_a_job_that_is_in_the_weights_and_did_not_succeed(root: Path) -> None:
    def renamed(events: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        kept = [event for event in events if not is_event(event[1], "JobSucceeded", "train-5")]
        cancelled = jobs.JobCancelled(job="train-5", reason="x")
        return [*kept, (3.5, msgspec.msgpack.encode(cancelled))]

    forge(root, renamed)
    with journal(root) as connection:
        connection.execute("UPDATE jobs SET state='cancelled' WHERE id='train-5'")
    caught(root, "lineage", r"the weights hold \['train-2', 'train-1', 'train-5'\]")


def test_a_success_that_is_not_in_the_weights(root: Path) -> None:
    shutil.rmtree(newest(root))
    code, failed, _ = check(root)
    assert code == 1
    assert failed.keys() == {"lineage", "driver"}
    assert "(2 jobs), the journal says ['train-2', 'train-1', 'train-5']" in failed["lineage"]


def test_two_generations_of_one_number(root: Path) -> None:
    first = newest(root, 1)
    number = checkpoints.parse_name(first.name)
    assert number is not None
    second = first.with_name(str(number._replace(step=number.step + 1)))
    shutil.copytree(first, second)
    change_facts(second, step=number.step + 1)
    caught(root, "generations", rf"generation {number.generation} was given to \[", also=("lineage",))


def test_a_parent_that_is_not_before(root: Path) -> None:
    change_facts(newest(root), parent=newest(root).name)
    caught(root, "generations", "which is not before it")


def test_a_generation_set_aside_is_no_fault(root: Path) -> None:
    damaged = newest(root, len(checkpoints.list_generations(root / "home" / "checkpoints")) - 2)
    (damaged / "model.safetensors").unlink()
    checkpoints.set_aside(damaged)
    assert check(root)[0] == 0


def test_a_leftover_temporary(root: Path) -> None:
    (root / "home" / "checkpoints" / ".tmp-0123").mkdir()
    caught(root, "temporaries", r"checkpoints/\.tmp-0123 was left")


def test_a_shard_that_is_not_the_journalled_one(root: Path) -> None:
    with journal(root) as connection:
        name = connection.execute("SELECT shard FROM jobs WHERE id='train-1'").fetchone()[0]
    trained = root / "home" / "cache" / name / "trained.bin"
    trained.write_bytes(bytes([1]) * trained.stat().st_size)
    caught(root, "rows", r"trained\.bin is not what the manifest says")


def test_what_cannot_be_read_at_all(root: Path) -> None:
    (root / "home" / "journal.db").write_bytes(b"no journal" * 1000)
    code, failed, last = check(root)
    assert (code, last) == (1, "verdict: broken (reading)")
    assert "not a database" in failed["reading"]


def test_usage(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-m", "trainq_checker", str(tmp_path)], check=False, capture_output=True,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert ended.returncode == 2
    assert b"no home" in ended.stderr


def test_strictly_nothing_may_be_unprovable(root: Path) -> None:
    assert check(root, "--strict")[0] == 0
    for shard in filter(Path.is_dir, list((root / "home" / "cache").iterdir())):
        shutil.rmtree(shard)
    assert check(root)[0] == 0
    caught(root, "rows", "its shard is gone", "--strict")


def test_strictly_a_change_of_what_computes_is_wrong_also_without_a_driver(root: Path) -> None:
    append(root, jobs.JobUncovered(job="train-5", generation=9, reason="lost"),
           jobs.LeaseGranted(job="train-5", worker="w", session="s2", attempt=2),
           jobs.FingerprintChanged(job="train-5", before={"torch": "1"}, after={"torch": "2"}),
           jobs.JobSucceeded(job="train-5", result={}))
    codes = [subprocess.run([sys.executable, "-m", "trainq_checker", str(root / "home"), *options], check=False,
                            stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
                            ).returncode for options in ([], ["--strict"])]
    assert codes == [0, 1]


def remove_oldest_trained(root: Path) -> tuple[str, Path]:
    """Move to the trash, as retention does, the oldest generation with a job's end in it; the job, and where it is."""
    home = root / "home"
    opened = Journal.open(home / "journal.db")
    for path in reversed(checkpoints.list_generations(home / "checkpoints")):
        facts = checkpoints.read_facts(path)
        if facts.cursor.job and facts.cursor.done:
            break
    with opened.transaction():
        decided = opened.append(jobs.RemovalDecided(store=jobs.Store.CHECKPOINTS, name=path.name, size_bytes=1,
                                                    reason="old"), 2.5)
    opened.close()
    (home / "trash").mkdir(exist_ok=True)
    trashed = home / "trash" / f"{decided.seq}-checkpoints-{path.name}"
    path.rename(trashed)
    return facts.cursor.job, trashed


def test_a_ledger_in_the_trash_proves_its_job(root: Path) -> None:
    remove_oldest_trained(root)
    assert check(root, "--strict")[0] == 0


def test_a_checkpoint_in_the_trash_may_not_be_damaged_either(root: Path) -> None:
    job, trashed = remove_oldest_trained(root)
    (trashed / "ledger.bin").write_bytes(b"")
    caught(root, "generations", r"ledger\.bin is not what the manifest says", also=("rows",))
    caught(root, "rows", f"{job} .*its checkpoint is gone", "--strict", also=("generations",))


def test_strictly_only_what_retention_has_deleted_may_be_gone(root: Path) -> None:
    job, trashed = remove_oldest_trained(root)
    shutil.rmtree(trashed)
    caught(root, "rows", f"{job} .*its checkpoint is gone", "--strict")
    append(root, jobs.RemovalPurged(removal=int(trashed.name.split("-")[0])))
    assert check(root, "--strict")[0] == 0
