"""A home with the web service in it, and clients of it: of requests, and of server-sent events."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple

from installations import wait_for
from places import Place


class Answered(NamedTuple):
    """A response; ``document`` is its JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Web:
    """A place with broker, status and web, and a client of it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        for name in ("status", "web"):
            place.start(name)
        self.port = wait_for(self._port, "web says where it listens", 20)
        self.token = place.home.token_file.read_text().strip()

    def _port(self) -> int:
        told = [service for service in self.place.overview().services if service.name == "web"]
        return int(told[0].detail.rpartition(":")[2]) if told and told[0].state == "RUNNING" else 0

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = "", **headers: str) -> Answered:
        """One request. Headers are given with ``_`` for ``-``; ``token`` None: without, empty: the right one."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token}"
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answered(response.status, {name.lower(): value for name, value in response.getheaders()},
                            response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        return self.ask("GET", path, token=None, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answered:
        return self.ask("POST", path, body, **headers)

    def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as link:
            link.sendall(sent)
            return b"".join(iter(lambda: link.recv(65536), b""))

    def stream(self, path: str, **headers: str) -> Stream:
        return Stream(self.port, path, {name.replace("_", "-"): value for name, value in headers.items()})


class Stream:
    """A client of server-sent events."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.request("GET", path, headers=headers)
        self.response = self._connection.getresponse()
        self.status = self.response.status

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self.response.close()

    def frame(self) -> dict[str, str]:
        """The next event; comments and ``retry`` are passed over."""
        fields: dict[str, str] = {}
        while True:
            line = self.response.readline().decode()
            assert line, "the stream has ended"
            if line == "\n":
                if "data" in fields:
                    return fields
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value

    def event(self, kind: str) -> dict[str, Any]:
        """The next event of the journal of this type."""
        while True:
            frame = self.frame()
            told: dict[str, Any] = json.loads(frame["data"])
            if "event" not in frame and told["type"] == kind:
                assert int(frame["id"]) == told["seq"]
                return told


def submit(web: Web, content: bytes, **query: str) -> Answered:
    words = "&".join(f"{name}={value}" for name, value in {"name": "a.jsonl", **query}.items())
    return web.post(f"/api/v1/jobs?{words}", content)


def rows(number: int) -> bytes:
    return json.dumps({"text": f"row {number}"}).encode() + b"\n"
