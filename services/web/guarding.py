"""Who may ask: this machine's own programs, and pages that come from here; and changes only with the token.

A browser runs the pages of strangers, and this port is within its reach. Three things keep those out. The Host header
must be one of loopback's names with this port: a page whose own name was made to point here (DNS rebinding) says its
own. The Origin and Sec-Fetch-Site headers, which no page can forge, must not be of another site. And whoever changes
something shows the token, which lies in the home, where only its owner reads it.
"""

from __future__ import annotations

import hmac
import secrets
import stat
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web import problems
from services.web.problems import RequestError
from trainq import files
from trainq.config import Home

ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost", "[::1]")
_TOKEN_BYTES = 32
# Of 32 bytes in base64url; one that is shorter was not made here.
_TOKEN_CHARACTERS = 43

_HEADERS: Mapping[str, str] = {
    # The page's own script and style alone; nobody may frame it.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def token_of(home: Home) -> str:
    """The home's token; made at the first start, and again if somebody else could read it or it is none.

    Raises:
        StorageError: it cannot be read or written.
    """
    path = home.token_file
    try:
        token = path.read_text().strip()
        if len(token) >= _TOKEN_CHARACTERS and token.isascii() and not path.stat().st_mode & (stat.S_IRWXG
                                                                                             | stat.S_IRWXO):
            return token
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    except OSError as error:
        raise files.storage_error(error, f"reading {path}") from error
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    files.write_file(path, token.encode() + b"\n")
    return token


def check_token(headers: Headers, token: str) -> None:
    """Refuse what does not show the token. The comparison takes as long whatever differs.

    Raises:
        RequestError: 401.
    """
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
        raise RequestError(
            HTTPStatus.UNAUTHORIZED, "token", "this needs the token of the home",
            mend="send \"Authorization: Bearer TOKEN\"; TOKEN is in run/token of the home",
            headers={"www-authenticate": "Bearer realm=\"trainq\""})


def check_host(headers: Headers, port: int) -> None:
    """Refuse what was sent to another name than this port's.

    Raises:
        RequestError: 421.
    """
    host = headers.get("host", "").lower()
    if host not in {f"{name}:{port}" for name in _NAMES}:
        raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, "host", f"nothing is served here for the host {host!r}",
                           mend=f"ask http://{ADDRESS}:{port}; from elsewhere: ssh -L {port}:{ADDRESS}:{port} HOST")


def check_site(method: str, headers: Headers, port: int) -> None:
    """Refuse what a page of another site sends. That somebody follows a link to here is no harm.

    Raises:
        RequestError: 403.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none").lower()
    own = origin is None or origin.lower() in {f"http://{name}:{port}" for name in _NAMES}
    followed = method in ("GET", "HEAD") and headers.get("sec-fetch-mode", "").lower() == "navigate"
    # "same-site" is a page of another port of this machine: no page of ours.
    if not own or (site not in ("none", "same-origin") and not followed):
        raise RequestError(HTTPStatus.FORBIDDEN, "other_site", "a page of another site asks for this",
                           mend="open the page of this address itself")


class Guard:
    """Checks host and site of every request before anything looks at it, and gives every response its headers."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        try:
            check_host(headers, self._port)
            check_site(scope["method"], headers, self._port)
        except RequestError as error:
            await problems.of_error(error)(scope, receive, sealed)
            return
        await self._app(scope, receive, sealed)
