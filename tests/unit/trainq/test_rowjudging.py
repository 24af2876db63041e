"""What decides over rows besides the file: suites, held-out rows, and the rows that are replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from trainq import builtin, leaks, preparing, rehearsal
from trainq.config import DataSettings, GateSettings
from trainq.preparing import Inputs, Prepared, cache_key, prepare
from trainq.quality import Band
from trainq.rehearsal import Pack
from trainq.reports import DataReport
from trainq.samples import TextSample, canonical, digest_of
from trainq.shards import REPLAYED, Shard
from trainq.textcodec import TextCodec

GATE = GateSettings()
DATA = DataSettings()


@pytest.fixture(scope="module")
def codec() -> TextCodec:
    return TextCodec.load(builtin.folder())


class Place:
    """A cache, and files that are prepared into it."""

    def __init__(self, root: Path, codec: TextCodec) -> None:
        self.root, self.codec = root, codec

    def prepare(self, rows: list[Any], inputs: Inputs, data: DataSettings = DATA) -> Prepared:
        source = self.root / "source"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        outcome = prepare(source, self.codec, data, 128, self.root / "cache", self.root / "rejected", "f",
                          lambda _: None, inputs)
        assert isinstance(outcome, Prepared), outcome
        assert outcome.report.closes()
        return outcome

    def rows(self, outcome: Prepared) -> list[tuple[int, bytes]]:
        with Shard.open(self.root / "cache" / outcome.shard, verify=True) as shard:
            return [(shard.row(index).line, shard.row(index).digest) for index in range(shard.rows)]

    def kept(self, outcome: Prepared, name: str) -> list[bytes]:
        return (self.root / "cache" / outcome.shard / name).read_bytes().splitlines()


@pytest.fixture
def place(tmp_path: Path, codec: TextCodec) -> Place:
    return Place(tmp_path, codec)


def text(number: int) -> TextSample:
    return TextSample(f"this is row number {number}")


def texts(*numbers: int) -> list[dict[str, str]]:
    return [{"text": text(number).text} for number in numbers]


def pack(*samples: TextSample) -> Pack:
    content = b"".join(canonical(sample) + b"\n" for sample in samples)
    return Pack(content, blake3(content).hexdigest())


def test_without_inputs_a_shard_is_one_of_before(place: Place, codec: TextCodec) -> None:
    outcome = place.prepare(texts(*range(5)), Inputs())
    assert {path.name for path in (place.root / "cache" / outcome.shard).iterdir()} == {
        "tokens.bin", "trained.bin", "offsets.bin", "digests.bin", "rows.bin", "report.json", "manifest.json"}
    report = json.loads((place.root / "cache" / outcome.shard / "report.json").read_bytes())
    assert not report.keys() & {"quality", "replayed", "replayed_tokens"}
    # As it was before there were inputs.
    assert cache_key("0" * 64, codec, DATA, 128) == cache_key("0" * 64, codec, DataSettings(replay_fraction=0.1), 128)
    assert outcome.verdict is None


def test_each_input_is_part_of_the_key(codec: TextCodec) -> None:
    index = leaks.LeakIndex({}, {bytes(16): leaks.Place("s", "f", 1)})
    keys = [cache_key("0" * 64, codec, DATA, 128, inputs) for inputs in (
        Inputs(), Inputs(gate=GATE), Inputs(gate=GATE, leaks=index, leaks_digest="a"),
        Inputs(gate=GATE, leaks=index, leaks_digest="b"), Inputs(gate=GATE, pack=pack(text(1))),
        Inputs(gate=GATE, pack=pack(text(2))))]
    assert len(set(keys)) == len(keys)
    # Limits are judged anew each time.
    other = Inputs(gate=msgspec.structs.replace(GATE, wrong=(0.1, 0.2, 0.3), on_poor="train"))
    assert cache_key("0" * 64, codec, DATA, 128, other) == keys[1]


def test_rows_of_a_suite_are_refused_and_do_not_reject_the_file(place: Place) -> None:
    suite = place.root / "suites" / "exam"
    suite.mkdir(parents=True)
    (suite / "test.jsonl").write_text(json.dumps({"text": text(3).text.upper()}) + "\n")
    inputs = Inputs(gate=GATE, leaks=leaks.read_suites(suite.parent), leaks_digest="d")
    outcome = place.prepare(texts(*range(5)), inputs)
    assert [line for line, _ in place.rows(outcome)] == [1, 2, 3, 5]
    assert outcome.report.rejected == 1
    assert outcome.report.reasons == {"it stands in the evaluation suite exam": 1}
    assert outcome.report.bad_rows[0].reason == "it stands in the evaluation suite exam, line 1 of test.jsonl"
    assert json.loads(place.kept(outcome, preparing.REJECTED_NAME)[0])["reason"] == outcome.report.bad_rows[0].reason
    assert outcome.verdict is not None
    assert outcome.verdict.band is Band.POOR
    told = json.loads((place.root / "rejected" / "f.report.json").read_text())
    assert (told["quality"]["band"], told["quality"]["overlap"]) == ("poor", 1)


def test_many_rows_of_a_suite_crowd_out_no_other_reason(place: Place) -> None:
    suite = place.root / "suites" / "exam"
    suite.mkdir(parents=True)
    (suite / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts(*range(120))))
    inputs = Inputs(gate=GATE, leaks=leaks.read_suites(suite.parent), leaks_digest="d")
    outcome = place.prepare([*texts(*range(121)), {"text": 5}], inputs, DataSettings(max_bad_rows=0.5))
    assert outcome.report.reasons == {"it stands in the evaluation suite exam": 120, "it is a number, not a string": 1}


def test_what_is_nearly_held_out_is_refused_wherever_it_stands(place: Place) -> None:
    fraction = DataSettings(held_out_fraction=0.5)
    held = next(number for number in range(99) if preparing.is_held_out(digest_of(canonical(text(number))), 0.5))
    near = next(TextSample(f"{text(held).text}{'!' * more}") for more in range(1, 99)
                if not preparing.is_held_out(digest_of(canonical(TextSample(f"{text(held).text}{'!' * more}"))), 0.5))
    kept = next(number for number in range(held + 1, 99)
                if not preparing.is_held_out(digest_of(canonical(text(number))), 0.5))
    outcome = place.prepare([{"text": near.text}, *texts(held, kept)], Inputs(gate=GATE), fraction)
    assert (outcome.report.rejected, outcome.report.held_out, outcome.report.trained) == (1, 1, 1)
    assert outcome.report.quality is not None
    assert (outcome.report.quality.near_held_out, outcome.report.quality.overlap) == (1, 0)
    assert outcome.verdict is not None
    assert outcome.verdict.band is Band.EXCELLENT, "it is no fault of the file's"
    assert place.kept(outcome, rehearsal.HELD_OUT_NAME) == [canonical(text(held))]
    assert place.kept(outcome, rehearsal.RESERVOIR_NAME) == [canonical(text(kept))]


def test_replayed_rows_stand_behind_the_file_s_own(place: Place) -> None:
    """At most the share that is wanted; none of the file, too long, or held out; the same when it is made again."""
    long = TextSample("long " * 200)
    inputs = Inputs(gate=GATE, pack=pack(text(3), long, *(text(number) for number in range(100, 110))))
    data = DataSettings(replay_fraction=0.3)
    outcome = place.prepare(texts(*range(10)), inputs, data)
    rows = place.rows(outcome)
    assert [line for line, _ in rows] == [*range(1, 11), *(REPLAYED + number for number in (3, 4, 5))]
    assert [digest for _, digest in rows[10:]] == [digest_of(canonical(text(number))) for number in (100, 101, 102)]
    report = outcome.report
    assert (report.read, report.trained, report.replayed, report.shard_rows) == (10, 10, 3, 13)
    assert report.shard_tokens == report.tokens + report.replayed_tokens > report.tokens
    # Neither replayed rows nor held-out ones are replayed once more.
    assert len(place.kept(outcome, rehearsal.RESERVOIR_NAME)) == 10
    again = Place(place.root / "again", place.codec)
    again.root.mkdir()
    assert again.prepare(texts(*range(10)), inputs, data).digest == outcome.digest
    held_out = place.prepare(texts(*range(10)), inputs, msgspec.structs.replace(data, held_out_fraction=0.5))
    half = int(0.5 * 2**64)
    assert all(int.from_bytes(digest[:8], "big") >= half for _, digest in place.rows(held_out))


def test_what_is_measured_of_the_rows(place: Place) -> None:
    said = {"role": "user", "content": "?"}
    rows = [{"messages": [said, {"role": "assistant", "content": answer}], "metadata": {"answer": 4}}
            for answer in ("it is #### 4", "it is #### 5")]
    rows += [{"messages": [said, {"role": "assistant", "content": "{}"}], "metadata": {"dataset": "syllo"}}]
    rows += [{"text": "token ghp_" + "a1" * 18}, {"text": "bro\ufffdken"}, {"text": "again"}, {"text": "again"}]
    found = place.prepare(rows, Inputs(gate=GATE)).report
    assert found.quality is not None
    assert (found.quality.checkable, found.quality.wrong, found.quality.wrong_lines) == (2, 1, (2,))
    assert (found.quality.secrets, found.quality.secret_lines) == ({"access token": 1}, (4,))
    assert (found.quality.damage, found.quality.damaged_lines) == ({"replacement characters": 1}, (5,))
    assert found.quality.p95_tokens == found.longest_row_tokens
    assert "ghp_" not in (place.root / "rejected" / "f.report.json").read_text()
    stored = next((place.root / "cache").glob("*/report.json"))
    assert msgspec.json.decode(stored.read_bytes(), type=DataReport) == msgspec.structs.replace(found, quality=None)
    # The measures lie beside the shard, which is made again where they are gone.
    again = place.prepare(rows, Inputs(gate=GATE))
    assert (again.reused, again.report) == (True, found)
    next((place.root / "cache").glob("*.quality.json")).unlink()
    anew = place.prepare(rows, Inputs(gate=GATE))
    assert (anew.reused, anew.digest, anew.report) == (False, again.digest, found)


def test_lines_are_counted_up_to_damage(tmp_path: Path) -> None:
    said: list[int] = []
    beat: Callable[[preparing.PrepareProgress], None] = lambda progress: said.append(progress.bytes_read)  # noqa: E731
    (tmp_path / "f").write_bytes(b"{}\n\n[]\nx")
    assert preparing.count_lines(tmp_path / "f", beat) == 3
    assert said
    (tmp_path / "g").write_bytes(b"\x1f\x8b" + b"x" * 50)
    assert preparing.count_lines(tmp_path / "g", beat) == 0
