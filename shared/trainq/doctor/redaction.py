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

from trainq.secretshapes import ISSUED_TOKEN, PRIVATE_KEY_BEGIN

REDACTED = "<redacted>"
ROW = "<row>"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset({
    "token", "secret", "secrets", "password", "passwd", "passphrase", "passwort", "pwd", "credential", "credentials",
    "apikey", "auth", "authorization", "cookie", "pat", "signature", "sig", "bearer", "dsn"})
_SECRET_PAIRS = frozenset((word, "key") for word in ("api", "access", "private", "secret", "account"))
# Of a name without what parts its words: PGPASSWORD, dbpass, SECRETTOKEN.
_SECRET_ENDS = ("pass", "password", "passwd", "passphrase", "passwort", "pwd", "token", "secret", "secrets",
                "credential", "credentials", "cookie", "cookies", "apikey", "accesskey", "privatekey", "secretkey",
                "oauth")
# Of a shell: where it is, which would be taken out of every path.
_PLACES = frozenset({"PWD", "OLDPWD"})
# The expressions see lines of any length: each must end in a time that grows with the text alone. None begins with
# a repetition, and what one has gone through without end it has also taken out, or it is bounded.
_PEM = re.compile(rf"{PRIVATE_KEY_BEGIN}.*?(?:-----END [A-Z ]{{0,40}}PRIVATE KEY-----|\Z)"
                  r"|\A[A-Za-z0-9+/=\\\s]+-----END [A-Z ]{0,40}PRIVATE KEY-----", re.DOTALL)
# Those of these words that a name may end in (dbpassword), and those that are a word of it (_auth, dbPat); headers have
# expressions of their own. Where the shell is (PWD=/a/path, OLDPWD=/a/path) stays.
_HEADERS = frozenset({"authorization", "cookie", "bearer"})
_ENDS = sorted(_SECRET_WORDS.intersection(_SECRET_ENDS) - _HEADERS - {"token"}, key=len, reverse=True)
_WHOLE = sorted(_SECRET_WORDS - _HEADERS - set(_SECRET_ENDS), key=len, reverse=True)
_KEYS = sorted({first for first, _ in _SECRET_PAIRS} | {"signing", "encryption", "ssh"})
_PLACE = r"(?-i:(?:(?<![\w-])|(?<=(?<![\w-])OLD))PWD=/)"
_NAME = (rf"(?:(?P<many>tokens)|(?P<one>token)"
         rf"|(?:(?!{_PLACE})(?:{'|'.join(_ENDS)})|(?:pg|my|db|_|\b)pass|(?:{'|'.join(_KEYS)})[_-]?key"
         rf"|(?:(?<![a-z])|(?-i:(?<=[a-z])(?=[A-Z])))(?:{'|'.join(_WHOLE)}))s?)")
# So that counts of tokens stay, and the small numbers of leases; any other number may be a secret.
_NUMBER_ENDS = r"\.?(?:[\s,;)}\]\"'\\]|$)"
_NO_COUNT = (rf"(?(many)(?!-?[\d.]+(?:e[+-]?\d+)?{_NUMBER_ENDS}))"
             rf"(?(one)(?!-?\d{{1,6}}(?:\.\d+)?(?:e[+-]?\d+)?{_NUMBER_ENDS}))")
_NAMED = rf"{_NAME}\\{{0,3}}[\"']?\s*[=:]\s*"
_SCHEME = r"(?:(?:Bearer|Basic|Digest|Token|ApiKey|Negotiate|AWS4-HMAC-SHA256)\s+)?"
_SHAPES = tuple((re.compile(pattern, flags), replacement) for pattern, flags, replacement in (
    # URLs: who logs in (and no host with its port, though an @ follows in the path), what gives access in the query,
    # and those that are themselves a secret.
    (r"(?<=[a-zA-Z0-9+.-])(://)(?!(?:\[[\da-fA-F:.]{2,64}\](?::\d{1,5})?|[^/\s\"':@?#]{1,128}:\d{1,5})[/?#])"
     r"(?:[^/\s\"':]{0,128}:[^\s\"']{1,512}|[^/\s\"']+)@", 0, rf"\1{REDACTED}@"),
    (r"([?&][^=&?\s\"']{0,64}(?:token|sig|key|secret|passw|credential|auth)[^=&\s\"']{0,64}=)[^&\s\"']+",
     re.IGNORECASE, rf"\1{REDACTED}"),
    (r"(hooks\.slack\.com/\w{1,20}/|discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/"
     r"|api\.telegram\.org/bot)[^\s\"'<>]+", re.IGNORECASE, rf"\1{REDACTED}"),
    # Headers, to the end of their line.
    (rf"(authorization\\{{0,3}}[\"']?\s*[:=]\s*\\{{0,3}}[\"']?{_SCHEME})[^\r\n\"'<]+", re.IGNORECASE,
     rf"\1{REDACTED}"),
    (r"(cookies?\\{0,3}[\"']?\s*[:=]\s*\\{0,3}[\"'])[^\r\n\"']+", re.IGNORECASE, rf"\1{REDACTED}"),
    (r"(cookies?\s*[:=][ \t]*)[^\s\"'<\\][^\r\n]*", re.IGNORECASE, rf"\1{REDACTED}"),
    (r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE, rf"\1 {REDACTED}"),
    # As the issuers make them, and JSON web tokens.
    (rf"\b(?:{ISSUED_TOKEN}|eyJ[\w-]{{8,}}(?:\.[\w-]*){{0,2}})", 0, REDACTED),
    # name = 'value', name = value, name: value.
    (rf"({_NAMED}\\{{0,3}}[bBrRfFuU]{{0,2}}(?P<q>[\"'])){_NO_COUNT}(?!<redacted>|<row>)"
     r"(?:\\.|(?!(?P=q))[^\\\r\n])+",
     re.IGNORECASE, rf"\1{REDACTED}"),
    (rf"({_NAMED}\\{{0,3}}){_NO_COUNT}[^\s\"',;&<]{{4,}}", re.IGNORECASE, rf"\1{REDACTED}"),
    # --name value, as a command has it.
    (rf"((?<![\w-])--?[\w-]{{0,40}}?{_NAME}[\"']?,?\s+)(?!-){_NO_COUNT}"
     r"(?:\"[^\"\r\n]+\"?|'[^'\r\n]+'?|[^\s\"'<]+)", re.IGNORECASE, rf"\1{REDACTED}"),
    # curl -u user:password, also among others (-su); but not the numbers of a user and a group.
    (r"((?<![\w-])(?:-[A-Za-z]{0,8}?[uU]|--(?:proxy-)?user\b)[\"']?[=,]?\s{0,8})(?!\d{1,10}:\d{1,10}(?:\s|$))"
     r"(?:\"[^\":\r\n]{0,128}:[^\"\r\n]+\"?|'[^':\r\n]{0,128}:[^'\r\n]+'?|[^\s\"':<]{1,128}:[^\s\"'<]+)", 0,
     rf"\1{REDACTED}"),
))
_QUOTED = re.compile(r"(?<!\w)[bBrRfFuU]{0,2}(['\"])(?:\\.|(?!\1).)*(?:\1|\Z)"
                     r"|\u201c[^\u201d]*(?:\u201d|\Z)|`[^`]*(?:`|\Z)",
                     re.DOTALL)
_SHOWN_ROW = re.compile(r"\[\[.*", re.DOTALL)
# What is known by its value must be long enough not to be found everywhere.
_SHORTEST_LITERAL = 8
_SHORTEST_CUT = 6
_MOST_TOKEN_BYTES = 4096
# Of a report of rows: what quotes them.
_ROW_KEYS = frozenset({"bad_rows", "reasons", "raw", "rows_shown"})


class Redactor:
    """Takes secrets out of text and of JSON values. Keeps those that it knows by their values; pass it on to nobody."""

    def __init__(self, environment: Mapping[str, str], token_files: Iterable[Path] = ()) -> None:
        known = {value for name, value in environment.items() if is_secret_variable(name)}
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

    def text(self, text: str, *, rows: bool = False) -> str:
        """``text`` without secrets, and with ``rows`` without what may quote rows; the user's folder is ``~``."""
        return self._without_shapes(without_rows(self._without_blocks(text)) if rows else self._without_blocks(text))

    def lines(self, text: str, *, rows: bool = False) -> str:
        """The same of plain lines, of which each may quote a row; but a key may go over many."""
        text = self._without_blocks(text)
        return self._without_shapes("".join(map(_line_without_rows, text.splitlines(keepends=True))) if rows else text)

    def value(self, value: Any, *, rows: bool = False) -> Any:
        """A JSON value without secrets; with ``rows`` also without what may quote rows (:func:`without_rows`).

        What stands under the name of a secret is taken out whatever it is, but nothing, true and false.
        """
        match value:
            case str():
                return self.text(value, rows=rows)
            case Mapping():
                return {self.text(str(key)): REDACTED if is_secret_name(str(key)) and _may_be_secret(item)
                        else self.value(item, rows=rows)
                        for key, item in value.items() if key not in _ROW_KEYS}
            case list() | tuple():
                return [self.value(item, rows=rows) for item in value]
            case _:
                return value

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Those of an environment, without secrets."""
        return {name: REDACTED if value and is_secret_variable(name) else self.text(value)
                for name, value in environment.items()}

    def _without_blocks(self, text: str) -> str:
        """Without what may have quotes and ends of lines in it: it goes before anything is taken for quoted."""
        for literal in self._literals:
            text = text.replace(literal, REDACTED)
            # What quotes the end of a log cuts it, and may do so in the midst of one.
            begins = text.rfind(literal[:_SHORTEST_CUT], max(0, len(text) - len(literal)))
            if begins >= 0 and literal.startswith(text[begins:]):
                text = text[:begins] + REDACTED
        return _PEM.sub(REDACTED, text)

    def _without_shapes(self, text: str) -> str:
        for pattern, replacement in _SHAPES:
            text = pattern.sub(replacement, text)
        return self._user_folder.sub("~", text) if self._user_folder is not None else text


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret: ``HF_TOKEN``, ``apiKey``; but not ``tokens``, ``tokenizer``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return (bool(_SECRET_WORDS & set(words)) or any(pair in _SECRET_PAIRS for pair in pairwise(words))
            or "".join(words).endswith(_SECRET_ENDS))


def is_secret_variable(name: str) -> bool:
    """The same of a variable of the environment, where every key is one that opens something."""
    return name not in _PLACES and (is_secret_name(name) or name.rstrip("0123456789_").upper().endswith("KEY"))


def _may_be_secret(value: Any) -> bool:
    return not isinstance(value, bool) and value is not None and value not in ("", [], {}, ())


def without_rows(text: str) -> str:
    """``text`` with what it quotes, and with a row that it shows, taken out."""
    return _QUOTED.sub(ROW, _SHOWN_ROW.sub(ROW, text))


def _line_without_rows(line: str) -> str:
    content = line.rstrip("\r\n")
    return without_rows(content) + line[len(content):]
