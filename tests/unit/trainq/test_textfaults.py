"""Damage is found in texts, and not in what people write; secrets are named and never quoted."""

from __future__ import annotations

import time

import pytest

from trainq import config, textfaults

GUIDE = (config.project_root() / "docs" / "guide.md").read_text()
TABLE = "\n".join(f"| {number} | {number * number} | {number % 7} |" for number in range(300))
PUZZLE = "\n".join([f"{slot}. ___ ___ ___ — clue number {slot}" for slot in range(1, 11)] + [" | ".join(
    ["ba", "na", "nas", "to", "ma", "toes", "pep", "per", "cu", "cum", "ber"])] * 3)


@pytest.mark.parametrize("text", [
    "A sentence.", GUIDE, TABLE, PUZZLE, "São Paulo, Ção, É, Ã", "日本語のテキスト" * 3, "a\tb\r\nc\u0085d", " " * 5000,
    "-" * 70 + "x", "=" * 40, "ha" * 100, "#### 42", "x = [0, 1]\n" * 10, "\U0001f600" * 30])
def test_what_people_write_is_not_damaged(text: str) -> None:
    assert textfaults.damage_of(text) == (("hardly any words",) if text.startswith("-" * 70) else ())


@pytest.mark.parametrize(("text", "kind"), [
    ("broken \ufffd here", "replacement characters"),
    ("Cafés in Córdoba, déjà vu".encode().decode("latin-1"), "mojibake"),
    ("It\u2019s \u201cquoted\u201d \u2014 and it\u2019s more".encode().decode("cp1252", "ignore"), "mojibake"),
    ("a bell \x07", "control characters"), ("escape \x1b[31m", "control characters"),
    ("}{)(*&^%$#@!" * 8, "hardly any words"), ("a" * 300, "repetition"), ("I am sorry. " * 40, "repetition"),
    ("An answer that begins well. " + " ".join(f"word{n}" for n in range(300)) + " and so on" * 500, "repetition")])
def test_damage_is_found(text: str, kind: str) -> None:
    assert kind in textfaults.damage_of(text)


@pytest.mark.parametrize(("text", "kinds"), [
    ("the sky-scraper hf_ and sk- and AKIA", ()), ("ghp_" + "a1" * 18, ("access token",)),
    ("key: AKIA" + "A1B2" * 4, ("access token",)), ("-----BEGIN RSA PRIVATE KEY-----\nMII", ("private key",)),
    ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abcdefgh12", ("web token",)), ("eyJhbGciOiJIUzI1", ()),
    ("token=eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abcdefgh12", ("web token",)),
    ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abc", ()), ("XeyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abcdefgh12", ())])
def test_secrets_are_named(text: str, kinds: tuple[str, ...]) -> None:
    assert textfaults.secrets_in(text) == kinds


@pytest.mark.parametrize("unit", [
    "-eyJaaaaaaaa", "eyJaaaaaaaa.", "eyJaaaaaaaa.eyJaaaaaaaa.", "eyJ", "sk-", "-sk-", "sk--", "glpat--", "AIza",
    "pypi-a-", "xoxb-", "github_pat_", "-----BEGIN ", "-----BEGIN PRIVATE KEY", "\u00c3", "\u00e2\u20ac",
    "a\x7f", "ab" * 30])
def test_no_text_takes_more_time_than_its_length(unit: str) -> None:
    text = unit * (1_000_000 // len(unit.encode()))
    began = time.process_time()
    textfaults.damage_of(text)
    textfaults.secrets_in(f"{text}\u00e9")
    assert time.process_time() - began < 1.0
