"""Model cards: a checkpoint's ``README.md`` in the form that Hugging Face's hub has, for people who find the folder.

A card is a pure function of the checkpoint's facts, and says nothing that its manifest does not say; no time is in it.
Names come from outside: they are escaped, so that none of them is taken for Markdown, HTML or YAML.

The front matter is that of https://huggingface.co/docs/hub/model-cards: ``base_model`` is the folder's name with which
the line began, which may be no repository's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from trainq.checkpoints import CheckpointFacts, JobRecord

NAME = "README.md"
# What a line that began with trainq's own small model calls it.
_BUILTIN = "trainq-builtin"
_MARKUP = re.compile(r"([\\`*\[\]<>|&~])")
_DIGEST_SHOWN = 16


def text(facts: CheckpointFacts) -> bytes:
    """The card of the checkpoint with these facts, in UTF-8."""
    sections = [_front_matter(facts), _title(facts), _standing(facts), _jobs(facts), _settings(facts),
                _table("## Versions", ("library", "version"), sorted(facts.versions.items())),
                _table("## Computed on", ("", ""), sorted(facts.fingerprint.items()))]
    return "\n\n".join("\n".join(section) for section in sections if section).encode() + b"\n"


def _front_matter(facts: CheckpointFacts) -> list[str]:
    adapted = bool(facts.adapter_of)
    base = [] if facts.model == _BUILTIN else [f"base_model: {_quoted(facts.model)}"]
    return ["---", f"library_name: {'transformers' if facts.has_weights else 'peft'}",
            "pipeline_tag: text-generation", *base, "tags:", "- trainq", *(["- lora"] if adapted else []), "---"]


def _title(facts: CheckpointFacts) -> list[str]:
    return [f"# {facts.name}", "",
            "A checkpoint of a model line that trainq keeps training from dropped "
            f"files; it began with {_escaped(facts.model)}. `manifest.json` holds the digest of every file here."]


def _standing(facts: CheckpointFacts) -> list[str]:
    cursor = facts.cursor
    rows = [
        ("generation", f"{facts.generation}"), ("optimizer step of the line", f"{facts.step}"),
        ("published because of", facts.reason + (f" ({facts.made_by})" if facts.made_by else "")),
        ("parent", facts.parent),
        ("content of generation", f"{facts.restored_from}" if facts.restored_from else ""),
        ("weights under the adapter", "" if facts.has_weights else facts.adapter_of),
        ("in the middle of", f"{cursor.job}, {cursor.job_step} of its {cursor.steps_planned} steps"
         if cursor.job and not cursor.done else ""),
        ("rows seen", f"{facts.rows_seen}"), ("tokens seen", f"{facts.tokens_seen}"),
        *((f"{name} of {cursor.job}", f"{value:.6g}") for name, value in sorted(facts.metrics.items()))]
    return _table("", ("", ""), ((name, value) for name, value in rows if value))


def _jobs(facts: CheckpointFacts) -> list[str]:
    """The newest jobs with what each has added, and how many there are in all."""
    if not facts.jobs:
        return []
    counted = facts.jobs[-1].number
    shown = "" if counted == len(facts.jobs) else f", the last {len(facts.jobs)} of them"
    said = f"{counted} in all{shown}." if counted else "The newest ones; how many came before was not counted then."
    ends = [*facts.jobs[1:], JobRecord(job="", step=facts.step, rows_seen=facts.rows_seen,
                                       tokens_seen=facts.tokens_seen)]
    rows = [(each.job, each.name, each.digest[:_DIGEST_SHOWN], f"{end.step - each.step}",
             f"{end.rows_seen - each.rows_seen}", f"{end.tokens_seen - each.tokens_seen}")
            for each, end in zip(facts.jobs, ends, strict=True)]
    return [f"## Files\n\n{said} Rows and tokens count repetitions.\n",
            *_table("", ("job", "file", "BLAKE3", "steps", "rows", "tokens"), rows)]


def _settings(facts: CheckpointFacts) -> list[str]:
    plain = {**facts.settings, **{f"lora.{name}": value for name, value in facts.settings.get("lora", {}).items()}}
    plain.pop("lora", None)
    return _table(f"## Settings of {facts.cursor.job}", ("setting", "value"),
                  ((name, json.dumps(value)) for name, value in sorted(plain.items())))


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of Markdown below its title; nothing at all without rows."""
    lines = [f"| {' | '.join(map(_escaped, row))} |" for row in rows]
    rule = f"|{'---|' * len(header)}"
    return [*([title, ""] if title else []), f"| {' | '.join(header)} |", rule, *lines] if lines else []


def _escaped(word: str) -> str:
    """``word`` as text of Markdown in one line."""
    return _MARKUP.sub(r"\\\1", _plain(word))


def _quoted(word: str) -> str:
    """``word`` as a scalar of YAML, of which JSON's strings are a subset."""
    return json.dumps(_plain(word), ensure_ascii=False)


def _plain(word: str) -> str:
    """``word`` with everything that does not print as itself (controls, bidi marks, surrogates) as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in word)
