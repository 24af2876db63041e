"""Taking out what is nobody else's business before a report leaves the machine: secrets, and what rows of files say.

Secrets are known by the name that they stand under, by their shape, and by their value where the environment or the
home holds it. Rows are known by where they can stand: in the reasons of jobs and the logs of those who read files,
quoted or between the brackets of a row that is shown. Names of files, paths and numbers stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

REDACTED = "<redacted>"
ROW = "<row>"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset({
    "token", "secret", "secrets", "password", "passwd", "passphrase", "passwort", "pwd", "credential", "credentials",
    "apikey", "auth", "authorization", "cookie", "pat", "signature", "sig", "bearer", "dsn"})
_SECRET_PAIRS = frozenset((word, "key") for word in ("api", "access", "private", "secret", "account"))
_SHAPES = tuple((re.compile(pattern, flags), replacement) for pattern, flags, replacement in (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL, REDACTED),
    # URLs: who logs in, and what gives access in the query.
    (r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s\"'@]+@", 0, rf"\1{REDACTED}@"),
    (r"([?&][^=&\s\"']*(?:token|sig|key|secret|passw|credential|auth)[^=&\s\"']*=)[^&\s\"']+", re.IGNORECASE,
     rf"\1{REDACTED}"),
    (r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE, rf"\1 {REDACTED}"),
    # As the issuers make them: Hugging Face, OpenAI and Anthropic, GitHub, GitLab, Slack, AWS, Google, npm, PyPI,
    # Docker, and JSON web tokens.
    (r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
     r"|xox[abprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}"
     r"|dckr_pat_[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)", 0, REDACTED),
    # name = value, name: value; numbers stay, so that counts of tokens do.
    (r"\b([\w.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?"
     r"[\"']?\s*[=:]\s*[\"']?)(?!-?[\d.]+(?:e[+-]?\d+)?(?:[\s,;}\"']|$))[^\s\"',;&<]{4,}", re.IGNORECASE,
     rf"\1{REDACTED}"),
))
_QUOTED = re.compile(r"(?<!\w)(['\"])(?:\\.|(?!\1).)*(?:\1|\Z)", re.DOTALL)
_SHOWN_ROW = re.compile(r"\[\[.*", re.DOTALL)
# What is known by its value must be long enough not to be found everywhere.
_SHORTEST_LITERAL = 8
_MOST_TOKEN_BYTES = 4096
# Of a report of rows: what quotes them.
_ROW_KEYS = frozenset({"bad_rows", "reasons", "raw", "rows_shown"})


class Redactor:
    """Takes secrets out of text and of JSON values. Keeps those that it knows by their values; pass it on to nobody."""

    def __init__(self, environment: Mapping[str, str], token_files: Iterable[Path] = ()) -> None:
        known = {value for name, value in environment.items() if is_secret_name(name)}
        for path in token_files:
            try:
                with path.open("rb") as stream:
                    known.add(stream.read(_MOST_TOKEN_BYTES).decode("utf-8", "replace").strip())
            except OSError:
                continue
        # The longest first: one may be a part of another.
        self._literals = sorted((value for value in known if len(value) >= _SHORTEST_LITERAL), key=len, reverse=True)
        user_folder = environment.get("HOME", "").rstrip("/")
        self._user_folder = re.compile(re.escape(user_folder) + r"(?![\w.-])") if len(user_folder) > 1 else None

    def text(self, text: str) -> str:
        """``text`` without secrets; the user's folder is ``~``."""
        for literal in self._literals:
            text = text.replace(literal, REDACTED)
        for pattern, replacement in _SHAPES:
            text = pattern.sub(replacement, text)
        return self._user_folder.sub("~", text) if self._user_folder is not None else text

    def value(self, value: Any, *, rows: bool = False) -> Any:
        """A JSON value without secrets; with ``rows`` also without what may quote rows (:func:`without_rows`)."""
        match value:
            case str():
                return self.text(without_rows(value) if rows else value)
            case Mapping():
                return {self.text(str(key)): REDACTED if isinstance(item, str) and item and is_secret_name(str(key))
                        else self.value(item, rows=rows)
                        for key, item in value.items() if key not in _ROW_KEYS}
            case list() | tuple():
                return [self.value(item, rows=rows) for item in value]
            case _:
                return value


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret: ``HF_TOKEN``, ``apiKey``; but not ``tokens``, ``tokenizer``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(_SECRET_WORDS & set(words)) or any(pair in _SECRET_PAIRS for pair in pairwise(words))


def without_rows(text: str) -> str:
    """``text`` with what it quotes, and with a row that it shows, taken out."""
    return _QUOTED.sub(ROW, _SHOWN_ROW.sub(ROW, text))
