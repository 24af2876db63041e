"""A card says what the manifest says, in a form that a hub and people read, whatever a file is called."""

from __future__ import annotations

import json

import msgspec

from trainq import cards, checkpoints
from trainq.checkpoints import CheckpointFacts, Cursor, JobRecord

FACTS = CheckpointFacts(
    generation=3, step=14, cursor=Cursor(job="train-2", job_step=4, steps_planned=10), journal_seq=9,
    fingerprint={"torch": "2.13", "threads": "2"}, rows_seen=90, tokens_seen=900, model="my-model", created_by="test",
    reason="interval", parent="g000002-s00000010", metrics={"loss": 1.25, "loss_mean": 1.5},
    jobs=[JobRecord(job="train-1", name="one.jsonl", digest="ab" * 32, number=1),
          JobRecord(job="train-2", name="two.jsonl", digest="cd" * 32, number=2, step=10, rows_seen=80,
                    tokens_seen=800)],
    settings={"learning_rate": 0.01, "epochs": 2}, versions={"trainq": "1.0", "torch": "2.13"})

EXPECTED = """\
---
library_name: transformers
pipeline_tag: text-generation
base_model: "my-model"
tags:
- trainq
---

# g000003-s00000014

A checkpoint of a model line that trainq keeps training from dropped files; it began with my-model. `manifest.json` \
holds the digest of every file here.

|  |  |
|---|---|
| generation | 3 |
| optimizer step of the line | 14 |
| published because of | interval |
| parent | g000002-s00000010 |
| in the middle of | train-2, 4 of its 10 steps |
| rows seen | 90 |
| tokens seen | 900 |
| loss of train-2 | 1.25 |
| loss_mean of train-2 | 1.5 |

## Files

2 in all. Rows and tokens count repetitions.

| job | file | BLAKE3 | steps | rows | tokens |
|---|---|---|---|---|---|
| train-1 | one.jsonl | abababababababab | 10 | 80 | 800 |
| train-2 | two.jsonl | cdcdcdcdcdcdcdcd | 4 | 10 | 100 |

## Settings of train-2

| setting | value |
|---|---|
| epochs | 2 |
| learning_rate | 0.01 |

## Versions

| library | version |
|---|---|
| torch | 2.13 |
| trainq | 1.0 |

## Computed on

|  |  |
|---|---|
| threads | 2 |
| torch | 2.13 |
"""


def changed(**fields: object) -> CheckpointFacts:
    return msgspec.structs.replace(FACTS, **fields)


def text(facts: CheckpointFacts) -> str:
    return cards.text(facts).decode()


def test_the_whole_card() -> None:
    assert text(FACTS) == EXPECTED


def test_an_adapter_says_where_its_weights_lie() -> None:
    said = text(changed(adapter_of="g000001-s00000000", settings={"lora": {"rank": 8}}))
    assert "library_name: peft" in said
    assert "- lora\n" in said
    assert "| weights under the adapter | g000001-s00000000 |" in said
    assert "| lora.rank | 8 |" in said


def test_a_restored_one_says_from_what_and_by_whom() -> None:
    said = text(changed(reason="restore", made_by="restore-4", restored_from=2))
    assert "| published because of | restore (restore-4) |" in said
    assert "| content of generation | 2 |" in said


def test_the_built_in_model_is_no_base_model_of_a_hub() -> None:
    assert "base_model" not in text(changed(model="trainq-builtin"))


def test_names_are_text_and_nothing_else() -> None:
    name = "a|b\n## c <script> `d` [e](f) \u202e\udcff"
    said = text(changed(model=name + '"', jobs=[JobRecord(job="train-1", name=name, number=1)]))
    (row,) = [line for line in said.splitlines() if line.startswith("| train-1")]
    assert row.count("|") - row.count("\\|") == 7
    assert "<script>" not in row.replace("\\<", "").replace("\\>", "")
    assert "\u202e" not in said
    (base,) = [line for line in said.splitlines() if line.startswith("base_model: ")]
    assert json.loads(base.removeprefix("base_model: ")) == (
        'a|b\\n## c <script> `d` [e](f) \\u202e\\udcff"')


def test_of_many_jobs_the_newest_are_named_and_all_are_counted() -> None:
    facts = changed(jobs=[], cursor=Cursor(), step=0)
    for number in range(1, checkpoints.MAX_RECORDS + 3):
        facts = msgspec.structs.replace(facts, jobs=checkpoints.with_job(facts, f"train-{number}", "f", "d"),
                                        cursor=Cursor(job=f"train-{number}"))
    assert [facts.jobs[0].number, facts.jobs[-1].number, len(facts.jobs)] == [3, 22, 20]
    assert "22 in all, the last 20 of them." in text(facts)


def test_jobs_of_before_there_were_records_are_not_counted() -> None:
    facts = changed(jobs=[])
    facts = msgspec.structs.replace(facts, jobs=checkpoints.with_job(facts, "train-3", "f", "d"))
    assert facts.jobs[-1].number == 0
    assert "not counted" in text(facts)
    facts = msgspec.structs.replace(facts, jobs=checkpoints.with_job(facts, "train-4", "f", "d"))
    assert facts.jobs[-1].number == 0


def test_what_an_older_trainq_wrote_has_a_card_too() -> None:
    older = changed(jobs=[], settings={}, versions={})
    assert text(older).startswith("---\n")
    assert "## Files" not in text(older)
