"""What is wrong with a text, whatever it says: damage that no person has written, and secrets that nobody should learn.

Pure; each look costs a time that grows with the text alone. Secrets are named by their kind and never quoted.
"""

from __future__ import annotations

import re
import zlib

from trainq.secretshapes import ISSUED_TOKEN, PRIVATE_KEY_BEGIN

# The UTF-8 of a Latin letter, or of typographic punctuation, read as Latin-1 or Windows-1252: "Ã©", "â€™", "Â ".
_MOJIBAKE = re.compile("[\u00c2\u00c3][\u0080-\u00bf\u0152-\u0192\u2013-\u203a\u20ac\u2122]"
                       "|\u00e2(?:\u20ac|\u0080)[\u0080-\u00bf\u0152-\u0192\u02c6-\u02dc\u2013-\u203a\u2122]")
# One may be a name, or what the row is about.
_MOST_MOJIBAKE = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x84\x86-\x9f]")
_REPLACEMENT = "\ufffd"
# Letters, digits and white space; whatever is not ASCII may be a word of some script.
_WORD_BYTES = bytes(byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum() or chr(byte).isspace())
_SHORTEST_WORDLESS = 64
_MOST_WORDLESS = 0.75
# A loop is found by what it packs to. English text packs to 40 % and more, sorted tables to 10 %; the window and both
# numbers leave room below that: a repeated phrase of 40 letters packs a window to some 70 bytes.
_WINDOW = 2048
_SHORTEST_LOOP = 256
_LOOP_BYTES, _LOOP_SHARE = 40, 1 / 32
# Packing is slow. What stands in the middle of a loop stands in it again and again, which is quickly seen.
_PROBE_BYTES, _PROBE_TIMES = 16, 4
_SECRETS = (("private key", re.compile(PRIVATE_KEY_BEGIN)), ("access token", re.compile(rf"\b{ISSUED_TOKEN}\b")),
            # One beginning a stretch, and nothing given back: else a text of beginnings takes the square of its length.
            ("web token", re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.eyJ[\w-]{8,}+\.[\w-]{8}")))
# Each of these shapes has one of them; to find out that a text has none is ten times as fast.
_SIGNS = ("PRIVATE KEY", "hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "AKIA",
          "ASIA", "AIza", "npm_", "pypi-", "dckr_pat_", "eyJ")


def damage_of(text: str) -> tuple[str, ...]:
    """The kinds of damage in a text; empty where there is none."""
    found = []
    if _REPLACEMENT in text:
        found.append("replacement characters")
    if not text.isascii() and len(_MOJIBAKE.findall(text)) > _MOST_MOJIBAKE:
        found.append("mojibake")
    if not text.isprintable() and _CONTROL.search(text):
        found.append("control characters")
    content = text.encode("utf-8", "surrogatepass")
    if len(content) >= _SHORTEST_WORDLESS and len(content.translate(None, _WORD_BYTES)) > _MOST_WORDLESS * len(content):
        found.append("hardly any words")
    if _loops(content):
        found.append("repetition")
    return tuple(found)


def secrets_in(text: str) -> tuple[str, ...]:
    """The kinds of secrets in a text."""
    if not any(sign in text for sign in _SIGNS):
        return ()
    return tuple(kind for kind, pattern in _SECRETS if pattern.search(text))


def _loops(content: bytes) -> bool:
    """Whether a stretch of it says the same over and over: one character, or a phrase."""
    for start in range(0, len(content) - _SHORTEST_LOOP + 1, _WINDOW):
        window = content[start:start + _WINDOW]
        if len(window) < _SHORTEST_LOOP:
            break
        middle = len(window) // 2
        if window.count(window[middle:middle + _PROBE_BYTES]) < _PROBE_TIMES or window.isspace():
            continue  # white space alone is a matter of layout
        if len(zlib.compress(window, 1)) < _LOOP_BYTES + _LOOP_SHARE * len(window):
            return True
    return False
