"""Self-play: what the model says right becomes a file with its provenance, what it says wrong never does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from tests.unit.trainq.ml.tiny import SETTINGS, job_over, start, train
from trainq import checkpoints, evaluations, preparing, suites
from trainq.config import DataSettings, Home
from trainq.errors import InputError, NotFoundError, UsageError
from trainq.generating import base, puzzles, registry
from trainq.generating.base import GenerateRequest
from trainq.ml import selfplaying
from trainq.ml.selfplaying import Played, Request
from trainq.textcodec import TextCodec

# A model answers in each of them.
pytestmark = pytest.mark.slow


class Luck:
    """Questions to which the answer is 7 for each second one, and the number that is asked for the others."""

    name, version, levels = "arithmetic", "1", 1

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        for index in range(request.count):
            answer = "7" if index % 2 else str(10 + index)
            yield {"messages": base.chat(f"{10 + index}?", answer),
                   "metadata": {**base.provenance(self, request, index, "arithmetic"), "answer": answer}}


@pytest.fixture
def champion(tiny_model: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that was taught to say 7, whatever it is asked."""
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "arithmetic": Luck})
    monkeypatch.setattr(puzzles, "_WORKED_OUT", {})
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps({"prompt": f"{number}?", "completion": "7"}) + b"\n"
                                for number in range(10, 34)))
    made = preparing.prepare(source, TextCodec.load(tiny_model), DataSettings(held_out_fraction=0.0), 64, home.cache,
                             tmp_path / "rejected", "rows", lambda _: None)
    assert isinstance(made, preparing.Prepared)
    begun = start(tiny_model, home)
    train(begun, job_over(home.cache / made.shard, settings=replace(SETTINGS, epochs=12, batch_rows=8,
                                                                    micro_batch_rows=8)), home)
    return checkpoints.list_generations(home.checkpoints)[0].name


def play(home: Home, champion: str, path: Path, **more: Any) -> Played:
    settings: dict[str, Any] = {"count": 24, "level": 1, "seed": 3, "limit_seconds": 60.0, **more}
    options = {"max_new_tokens": 4, "batch_rows": 8, "threads": 1, **settings.pop("options", {})}
    return selfplaying.play(Request(home=str(home.root), champion=champion, path=str(path), options=options,
                                    suites=str(home.suites), **settings))


def test_right_answers_become_a_file_and_say_where_they_come_from(champion: str, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    played = play(home, champion, path)
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    weights = evaluations.weights_digest(home.checkpoints / champion)
    assert played == Played(rows=12, left_out=0, size_bytes=path.stat().st_size, generator_version="1", asked=24,
                            right=12, lucky=0, unfit=0, weights_digest=weights, source="arithmetic",
                            source_version="1")
    assert [row["messages"] for row in rows] == [base.chat(f"{number}?", "7") for number in range(11, 35, 2)]
    told = [row["metadata"] for row in rows]
    assert {(each["champion"], each["weights"], each["generator"]) for each in told} == {
        (champion, weights, "selfplay")}
    assert [each["sample_index"] for each in told] == list(range(1, 24, 2))
    content = path.read_bytes()
    assert play(home, champion, path) == played
    assert path.read_bytes() == content
    # What was answered in time is what was asked.
    assert play(home, champion, path, count=16).rows == 8
    assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:8])


def test_too_few_right_ones_are_no_file_and_no_error(champion: str, home: Home, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made.jsonl"
    few = play(home, champion, path, options={"least_rows": 13})
    assert (few.rows, few.asked, few.right, few.reason) == (
        0, 24, 12, "only 12 of 24 answers were right, and fewer than 13 make no file")
    late = play(home, champion, path, limit_seconds=0.0)
    assert "only 0 of 0 answers were right" in late.reason
    assert "of 24 no more were answered in time" in late.reason
    wide = play(home, champion, path, options={"max_new_tokens": 64})
    assert (wide.unfit, wide.reason) == (24, "none of 24 puzzles fits into the model with 64 tokens of answer")
    # "7" and not the end of it is no answer.
    cut = play(home, champion, path, options={"max_new_tokens": 1})
    assert (cut.asked, cut.right, cut.lucky) == (24, 0, 12)
    monkeypatch.setattr(puzzles, "_WORKED_OUT", {"arithmetic": lambda question, answer: question == "11?"})  # noqa: ARG005
    luck = play(home, champion, path)
    assert (luck.right, luck.lucky) == (1, 11)
    assert "only 1 of 24 answers were right (11 more in their result alone)" in luck.reason
    assert not path.exists()


def test_what_is_in_a_suite_is_not_asked_and_a_checker_that_proves_nothing_is_not_believed(
        champion: str, home: Home, tmp_path: Path) -> None:
    path, suite = tmp_path / "made.jsonl", home.suites / "fixed"
    suites.write(suite, Luck().rows(GenerateRequest(count=4, level=1, seed=9)), kind="loss")
    played = play(home, champion, path)
    assert (played.left_out, played.asked, played.rows) == (4, 20, 10)
    with pytest.raises(InputError, match="say the same"):
        play(home, champion, path, count=5)
    with pytest.raises(InputError, match="all of the 4 puzzles stand in an evaluation suite"):
        play(home, champion, path, count=4)
    for options, error in (({"from": "command"}, UsageError), ({"from": "none"}, NotFoundError)):
        with pytest.raises(error):
            play(home, champion, path, options=options)
    with pytest.raises(NotFoundError):
        play(home, "g000009-s00000000", path)


def test_drawn_answers_are_asked_for_until_one_is_right_and_are_the_same_again(champion: str, home: Home,
                                                                              tmp_path: Path) -> None:
    """Hot, the model says 7 now and then."""
    path = tmp_path / "made.jsonl"

    def drawn(**more: Any) -> tuple[int, bytes]:
        played = play(home, champion, path, **more)
        return played.right, path.read_bytes()

    hot: dict[str, Any] = {"temperature": 1.5, "least_rows": 1}
    once = play(home, champion, path, options=hot)
    often, content = drawn(options={**hot, "samples": 8})
    assert once.right < often <= 12
    assert drawn(options={**hot, "samples": 8}) == (often, content)
    assert drawn(options={**hot, "samples": 8}, seed=4)[1] != content
    told = [orjson.loads(line)["metadata"] for line in content.splitlines()]
    assert {each["temperature"] for each in told} == {1.5}
    assert max(each["attempt"] for each in told) > 1
