"""An accepted file becomes one shard or is rejected with its reason; every row is accounted for."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import zstandard

from trainq import builtin, manifests
from trainq.config import DataSettings
from trainq.errors import DamageError, StorageError
from trainq.preparing import Prepared, PrepareProgress, Rejected, cache_key, is_held_out, prepare
from trainq.samples import ChatSample, Message, Sample, TextSample, row_digest
from trainq.shards import Shard
from trainq.textcodec import TextCodec

ALL_BAD_ROWS = DataSettings(max_bad_rows=1.0)


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.load(builtin.folder())


def ignore(_: PrepareProgress) -> None:
    pass


class Desk:
    """A source file, a cache and a rejected folder in one temporary place."""

    def __init__(self, root: Path, codec: TextCodec) -> None:
        self.root, self.codec = root, codec
        self.cache, self.rejected = root / "cache", root / "rejected"

    def write(self, rows: list[Any], compress: Callable[[bytes], bytes] = bytes) -> Path:
        content = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
        path = self.root / "source"
        path.write_bytes(compress(content))
        return path

    def prepare(self, source: Path, settings: DataSettings | None = None, context_tokens: int = 1024,
                beat: Callable[[PrepareProgress], None] = ignore, name: str = "j1-f") -> Prepared | Rejected:
        return prepare(source, self.codec, settings or DataSettings(), context_tokens, self.cache, self.rejected, name,
                       beat)

    def prepared(self, source: Path, settings: DataSettings | None = None, context_tokens: int = 1024) -> Prepared:
        outcome = self.prepare(source, settings, context_tokens)
        assert isinstance(outcome, Prepared)
        assert outcome.report.closes()
        return outcome

    def refused(self, source: Path, settings: DataSettings | None = None, context_tokens: int = 1024) -> Rejected:
        outcome = self.prepare(source, settings, context_tokens)
        assert isinstance(outcome, Rejected)
        assert outcome.report.closes()
        assert outcome.reason
        assert list(self.cache.iterdir()) == []
        assert json.loads((self.rejected / "j1-f.report.json").read_text())["reason"] == outcome.reason
        return outcome

    def lines(self, outcome: Prepared) -> list[int]:
        with Shard.open(self.cache / outcome.shard, verify=True) as shard:
            assert shard.digest == outcome.digest
            return [shard.row(index).line for index in range(shard.rows)]

    def rejected_rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.rejected / "j1-f.rejected.jsonl").read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path, codec: TextCodec) -> Desk:
    return Desk(tmp_path, codec)


TEXTS = [{"text": f"row {number}"} for number in range(300)]


def test_rows_of_every_format_come_out_in_order(desk: Desk, codec: TextCodec) -> None:
    samples: list[Sample] = [
        TextSample("one"), ChatSample((Message("user", "q"), Message("assistant", "a"))),
        ChatSample((Message("system", "s"), Message("user", "q"), Message("assistant", "a")))]
    outcome = desk.prepared(desk.write([
        {"text": "one"}, b"", {"prompt": "q", "completion": "a"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                      {"role": "assistant", "content": "a"}]}]))
    report = outcome.report
    assert (report.read, report.trained, report.rejected) == (3, 3, 0)
    with Shard.open(desk.cache / outcome.shard, verify=True) as shard:
        assert (shard.rows, shard.tokens) == (report.trained, report.tokens)
        for index, (sample, line) in enumerate(zip(samples, [1, 3, 4], strict=True)):
            row, encoded = shard.row(index), codec.encode(sample, 1024)
            assert row.token_ids.tolist() == encoded.token_ids
            assert row.trained.tolist() == encoded.trained
            assert row.digest == row_digest(sample)
            assert row.line == line
        facts = shard.facts
    assert (facts.trained_tokens, facts.longest_row_tokens) == (report.trained_tokens, report.longest_row_tokens)
    assert facts.key == outcome.shard
    assert not desk.rejected.exists()


def test_the_same_file_gives_the_same_shard_anywhere(desk: Desk, tmp_path: Path, codec: TextCodec) -> None:
    other = Desk(tmp_path / "other", codec)
    other.root.mkdir()
    rows = [*TEXTS, b"broken"]
    first, second = desk.prepared(desk.write(rows)), other.prepared(other.write(rows))
    assert (first.shard, first.digest) == (second.shard, second.digest)
    for entry in (desk.cache / first.shard).iterdir():
        assert entry.read_bytes() == (other.cache / first.shard / entry.name).read_bytes()


@pytest.mark.parametrize("compress", [gzip.compress, lambda content: zstandard.ZstdCompressor().compress(content)])
def test_compressed_files_give_the_same_rows(desk: Desk, compress: Callable[[bytes], bytes]) -> None:
    plain, compressed = desk.prepared(desk.write(TEXTS)), desk.prepared(desk.write(TEXTS, compress))
    assert plain.report == compressed.report
    for name in ("tokens.bin", "trained.bin", "offsets.bin", "digests.bin", "rows.bin"):
        assert (desk.cache / plain.shard / name).read_bytes() == (desk.cache / compressed.shard / name).read_bytes()


def test_a_shard_that_is_there_is_used(desk: Desk) -> None:
    source = desk.write(TEXTS)
    first = desk.prepared(source)
    inode = (desk.cache / first.shard / "tokens.bin").stat().st_ino
    again = desk.prepared(source)
    assert (first.reused, again.reused) == (False, True)
    assert (again.shard, again.digest, again.report) == (first.shard, first.digest, first.report)
    assert (desk.cache / first.shard / "tokens.bin").stat().st_ino == inode


@pytest.mark.parametrize("name", ["tokens.bin", "report.json", "manifest.json"])
def test_a_damaged_shard_is_made_again_and_comes_out_the_same(desk: Desk, name: str) -> None:
    source = desk.write(TEXTS)
    first = desk.prepared(source)
    path = desk.cache / first.shard / name
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    again = desk.prepared(source)
    assert (again.reused, again.digest) == (False, first.digest)
    assert desk.prepared(source).reused
    assert [entry.name for entry in desk.cache.iterdir()] == [first.shard]


def test_a_report_of_another_version_is_made_again(desk: Desk) -> None:
    source = desk.write(TEXTS)
    first = desk.prepared(source)
    path = desk.cache / first.shard
    facts = manifests.read(path, "shard").facts
    (path / "manifest.json").unlink()
    (path / "report.json").write_text('{"rows": 3}')
    manifests.seal(path, "shard", facts)
    assert desk.prepared(source).digest == first.digest


def test_the_key_covers_what_decides_the_bytes_and_nothing_else(codec: TextCodec, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for entry in builtin.folder().glob("*.json*"):
        (tmp_path / "m" / entry.name).write_bytes(entry.read_bytes())
    other_codec = TextCodec.load(tmp_path / "m")
    settings = DataSettings()
    base = cache_key("a", codec, settings, 10)
    others = {cache_key("b", codec, settings, 10), cache_key("a", other_codec, settings, 10),
              cache_key("a", codec, settings, 11), cache_key("a", codec, DataSettings(map={"text": "t"}), 10),
              cache_key("a", codec, DataSettings(long_rows="truncate"), 10),
              cache_key("a", codec, DataSettings(held_out_fraction=0.1), 10)}
    assert len(others | {base}) == 7
    assert cache_key("a", codec, DataSettings(max_bad_rows=0.5), 10) == base
    both = {"prompt": "p", "completion": "c"}, {"completion": "c", "prompt": "p"}
    assert len({cache_key("a", codec, DataSettings(map=order), 10) for order in both}) == 1


def test_few_bad_rows_are_reported_and_the_others_train(desk: Desk) -> None:
    rows: list[Any] = [*TEXTS]
    rows[4:4] = [b'{"text": 3}', b"caf\xe9"]
    outcome = desk.prepared(desk.write(rows))
    report = outcome.report
    assert (report.read, report.trained, report.rejected, report.rejected_listed) == (302, 300, 2, 2)
    assert report.reasons == {"it is a number, not a string": 1, "not UTF-8 text (byte 0xe9)": 1}
    assert [(row.line, row.column, row.field) for row in report.bad_rows] == [(5, 10, "text"), (6, 4, "")]
    assert [row["raw"] for row in desk.rejected_rows()] == ['{"text": 3}', "caf\\xe9"]
    document = json.loads((desk.rejected / "j1-f.report.json").read_text())
    assert (document["outcome"], document["reason"]) == ("prepared", "")
    assert desk.lines(outcome)[3:6] == [4, 7, 8]


def test_a_reused_shard_brings_its_rejected_rows_along(desk: Desk) -> None:
    source = desk.write([*TEXTS, b"broken"])
    desk.prepared(source)
    outcome = desk.prepare(source, name="j2-again")
    assert isinstance(outcome, Prepared)
    assert outcome.reused
    first, again = desk.rejected / "j1-f.rejected.jsonl", desk.rejected / "j2-again.rejected.jsonl"
    assert first.read_bytes() == again.read_bytes()


def test_too_many_bad_rows_reject_the_file(desk: Desk) -> None:
    rows = [*TEXTS[:96], b"1", b"2", b"3", b"4"]
    outcome = desk.refused(desk.write(rows), DataSettings(max_bad_rows=0.03))
    assert "4 of 100 rows are bad (4.0%)" in outcome.reason
    assert "max_bad_rows" in outcome.reason
    assert [row["line"] for row in desk.rejected_rows()] == [97, 98, 99, 100]
    assert outcome.report.trained == 96
    assert isinstance(desk.prepare(desk.write(rows), DataSettings(max_bad_rows=0.04)), Prepared)


def test_a_shard_made_under_a_generous_limit_is_not_used_under_a_strict_one(desk: Desk) -> None:
    source = desk.write([*TEXTS[:10], b"broken"])
    assert desk.prepared(source, ALL_BAD_ROWS).report.rejected == 1
    outcome = desk.prepare(source, DataSettings(max_bad_rows=0.0))
    assert isinstance(outcome, Rejected)
    assert json.loads((desk.rejected / "j1-f.report.json").read_text())["outcome"] == "rejected"
    assert desk.rejected_rows()[0]["raw"] == "broken"


def test_only_the_first_twenty_bad_rows_are_in_the_report_but_all_in_the_file(desk: Desk) -> None:
    outcome = desk.refused(desk.write([b"broken"] * 500))
    assert [row.line for row in outcome.report.bad_rows] == list(range(1, 21))
    assert outcome.report.rejected == len(desk.rejected_rows()) == 500


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "no rows"), (b"\n\n", "no rows"),
    (gzip.compress(b'{"text": "a"}\n' * 9999)[:-20], "damaged or cut short"),
    (zstandard.ZstdCompressor().compress(b'{"text": "a"}\n' * 9999)[:-5], "damaged or cut short"),
    ('{"text": "a"}'.encode("utf-16"), "UTF-16"),
])
def test_a_file_that_is_damaged_as_a_whole_is_rejected(desk: Desk, content: bytes, reason: str) -> None:
    source = desk.root / "source"
    source.write_bytes(content)
    outcome = desk.refused(source)
    assert reason in outcome.reason
    assert str(desk.root) not in outcome.reason


def test_an_impossible_mapping_rejects_the_file(desk: Desk) -> None:
    outcome = desk.refused(desk.write(TEXTS), DataSettings(map={"question": "q"}))
    assert "known are: messages" in outcome.reason


def test_nothing_left_to_train_rejects_the_file(desk: Desk) -> None:
    outcome = desk.refused(desk.write([{"text": "too long for that"}, {"text": "too long for that"}]), context_tokens=5)
    assert "no row is left to train on: of 2, 0 are bad, 1 too long, 0 held out, 1 duplicates" in outcome.reason


def test_a_row_whose_template_refuses_it_is_a_bad_row(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((builtin.folder() / name).read_bytes())
    (folder / "chat_template.jinja").write_text(
        "{{ raise_exception('too angry') if messages[0].content == 'angry' }}{{ messages[0].content }}"
        "{% if messages[0].content == 'calm' %}{% generation %}ok{% endgeneration %}{% endif %}")
    desk = Desk(tmp_path, TextCodec.load(folder))
    rows = [{"prompt": prompt, "completion": "a"} for prompt in ("angry", "calm", "angry", "silent")]
    report = desk.prepared(desk.write(rows), ALL_BAD_ROWS).report
    assert (report.trained, report.rejected, report.duplicate) == (1, 3, 0)
    assert report.reasons == {"the chat template refuses it: too angry": 2,
                              "nothing in it is trained: it makes no token to learn": 1}
    assert [row["line"] for row in desk.rejected_rows()] == [1, 3, 4]
    assert desk.rejected_rows()[0]["field"] == "chat_template"


def test_long_rows_are_dropped_or_cut_at_the_end(desk: Desk) -> None:
    # <|bos|> text <|end|>: 12, 13 and 5000 tokens.
    source = desk.write([{"text": "a" * 10}, {"text": "b" * 11}, {"text": "c" * 4998}])
    dropped = desk.prepared(source, context_tokens=12)
    assert (dropped.report.trained, dropped.report.dropped_long, dropped.report.truncated) == (1, 2, 0)
    cut = desk.prepared(source, DataSettings(long_rows="truncate"), context_tokens=12)
    assert (cut.report.trained, cut.report.dropped_long, cut.report.truncated) == (3, 0, 2)
    assert (cut.report.tokens, cut.report.longest_row_tokens) == (36, 12)
    with Shard.open(desk.cache / cut.shard, verify=True) as shard:
        assert shard.row(1).token_ids.tolist() == [257, *b"b" * 11]
        assert shard.row(2).token_ids.tolist() == [257, *b"c" * 11]


def test_a_row_cut_before_its_answer_is_dropped(desk: Desk) -> None:
    source = desk.write([{"prompt": "q" * 50, "completion": "a"}, {"prompt": "q", "completion": "a" * 50}])
    report = desk.prepared(source, DataSettings(long_rows="truncate"), context_tokens=20).report
    assert (report.trained, report.dropped_long, report.truncated) == (1, 1, 1)


@pytest.mark.parametrize("long_rows", ["drop", "truncate"])
def test_a_row_so_long_that_its_answer_is_not_even_encoded_is_dropped(
        desk: Desk, long_rows: Literal["drop", "truncate"]) -> None:
    source = desk.write([{"prompt": "q" * 100_000, "completion": "a"}, {"prompt": "q", "completion": "a"}])
    report = desk.prepared(source, DataSettings(long_rows=long_rows), context_tokens=20).report
    assert (report.trained, report.dropped_long, report.rejected) == (1, 1, 0)


def test_the_first_of_equal_rows_stays_whatever_format_it_has(desk: Desk) -> None:
    rows = [*TEXTS, {"prompt": "q", "completion": "a"}, {"instruction": "q", "output": "a", "id": 7}, *TEXTS[:200],
            {"text": "row  1"}]
    outcome = desk.prepared(desk.write(rows))
    assert (outcome.report.trained, outcome.report.duplicate) == (302, 201)
    assert desk.lines(outcome) == [*range(1, 302), len(rows)]


def test_held_out_rows_stay_out_in_every_file(desk: Desk) -> None:
    settings = DataSettings(held_out_fraction=0.2)
    first = desk.prepared(desk.write(TEXTS), settings)
    assert 30 < first.report.held_out < 90
    kept = {line - 1 for line in desk.lines(first)}
    assert kept == {at for at, row in enumerate(TEXTS) if not is_held_out(row_digest(TextSample(row["text"])), 0.2)}
    backwards = desk.prepared(desk.write(TEXTS[::-1]), settings)
    assert {300 - line for line in desk.lines(backwards)} == kept
    more = desk.prepared(desk.write(TEXTS), DataSettings(held_out_fraction=0.5))
    assert {line - 1 for line in desk.lines(more)} < kept


@pytest.mark.parametrize(("digest", "fraction", "held_out"), [
    (b"\0" * 32, 0.0, False), (b"\0" * 32, 1e-9, True), (b"\xff" * 32, 1.0, True), (b"\xff" * 32, 0.999, False),
    (b"\x7f" + b"\xff" * 31, 0.5, True), (b"\x80" + b"\0" * 31, 0.5, False),
])
def test_the_fraction_is_of_the_digests(digest: bytes, fraction: float, held_out: bool) -> None:
    assert is_held_out(digest, fraction) is held_out


def test_the_heart_beats_while_rows_and_while_bytes_go_by(desk: Desk) -> None:
    beats: list[PrepareProgress] = []
    source = desk.write([*TEXTS * 10, b"x" * 5_000_000, {"text": "last"}])
    outcome = desk.prepare(source, ALL_BAD_ROWS, beat=beats.append)
    assert outcome.report.read == 3002
    reading = [beat for beat in beats if beat.stage == "reading"]
    for beat, following in itertools.pairwise(reading):
        assert 0 <= following.rows - beat.rows <= 200
        assert 0 <= following.bytes_read - beat.bytes_read <= 1 << 20
    assert all(beat.bytes_total == source.stat().st_size for beat in beats)
    assert (reading[-1].rows, reading[-1].bytes_read) == (3002, source.stat().st_size)
    assert len([beat for beat in beats if beat.stage == "checking"]) >= 5


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_what_the_heart_raises_ends_the_work_and_leaves_nothing(desk: Desk, after: int) -> None:
    beats: list[PrepareProgress] = []

    def lose_the_lease(progress: PrepareProgress) -> None:
        beats.append(progress)
        if len(beats) > after:
            raise StorageError("gone")

    with pytest.raises(StorageError, match="gone"):
        desk.prepare(desk.write(TEXTS * 5), beat=lose_the_lease)
    assert len(beats) == after + 1
    assert not desk.cache.exists() or list(desk.cache.iterdir()) == []
    assert not desk.rejected.exists()
    assert isinstance(desk.prepare(desk.write(TEXTS * 5)), Prepared)


def test_a_stored_file_that_is_not_what_its_name_says_is_damage(desk: Desk) -> None:
    content = b'{"text": "a"}\n'
    stored = desk.root / manifests.digest_bytes(content)
    stored.write_bytes(content)
    assert isinstance(desk.prepare(stored), Prepared)
    stored.write_bytes(b'{"text": "b"}\n')
    with pytest.raises(DamageError, match="digest"):
        desk.prepare(stored)


def test_a_file_that_is_not_there_is_not_its_own_fault(desk: Desk) -> None:
    with pytest.raises(StorageError):
        desk.prepare(desk.root / "missing")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "a\0b", "é" * 101])
def test_a_name_that_is_no_file_name_is_refused(desk: Desk, name: str) -> None:
    with pytest.raises(ValueError, match="name of a report"):
        desk.prepare(desk.write(TEXTS), name=name)


def test_any_other_name_will_do(desk: Desk) -> None:
    outcome = desk.prepare(desk.write([*TEXTS, b"broken"]), name="j1-(copy) of é & ñ.jsonl.gz")
    assert isinstance(outcome, Prepared)
    assert (desk.rejected / "j1-(copy) of é & ñ.jsonl.gz.report.json").is_file()
