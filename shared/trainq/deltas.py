"""Following the status: numbered changes between whole pictures, and how whoever follows sees that it missed one.

The status process numbers each change of the picture from 1 (``n``) and names its life (``session``). A picture says
the newest change that is in it; a delta with number ``n`` turns the picture of ``n - 1`` into that of ``n``; a
heartbeat says the newest number each second. So a follower that lost something knows within a second, and asks for the
whole.
What changes by the mere passing of time (``at``, ``ages`` and those in ``services``) is no change.

Pure: no sockets here. docs/protocol.md describes the same for other languages.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from trainq.figures import Ages
from trainq.messages import Id
from trainq.picture import PICTURE_VERSION, StatusPicture, older

DELTA_TOPIC = b"delta"
BEAT_TOPIC = b"heartbeat"
# Whoever hears nothing for so long knows that the status process is not there.
SILENT_SECONDS = 5.0
_NO_CHANGE = frozenset({"at", "ages", "broker_age_seconds", "session", "n"})


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Change number ``n`` of a status process's life: each field of the picture that changed, with its new value."""

    v: int
    session: str
    n: int
    at: float
    changed: dict[str, Any]


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """Each second: the status process lives, and so many changes there were. ``seq`` is the journal's newest event."""

    v: int
    session: str
    n: int
    at: float
    seq: int
    ages: Ages


class GetPicture(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Asked of the status process: the whole picture, as it is now."""

    request_id: Id
    v: Literal[1] = 1


class Picture(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The answer."""

    picture: StatusPicture


class PictureEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """A picture with the id of the request that it answers."""

    request_id: str
    reply: Picture
    v: int = 1


def changes(before: StatusPicture | None, after: StatusPicture) -> dict[str, Any]:
    """The fields of ``after`` that differ, as they are; empty if nothing has happened."""
    if before is None:
        return {}
    return {name: getattr(after, name) for name in StatusPicture.__struct_fields__ if name not in _NO_CHANGE
            and _timeless(name, getattr(before, name)) != _timeless(name, getattr(after, name))}


def beat(picture: StatusPicture, now_wall: float) -> Beat:
    """The heartbeat at ``now_wall`` (wall seconds), with the picture's figures as much older as it is."""
    return Beat(v=picture.v, session=picture.session, n=picture.n, at=now_wall, seq=picture.seq,
                ages=older(picture.ages, max(0.0, now_wall - picture.at)))


def schema() -> bytes:
    """The JSON schema (draft 2020-12) of the picture and of what is sent beside it, as docs/status.schema.json has it.

    The root is the picture, as it is in ``status.json``; the messages are under ``$defs``.
    """
    kinds = (StatusPicture, Delta, Beat, GetPicture, PictureEnvelope)
    (root, *_), definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    for definition in definitions.values():
        definition.pop("description", None)  # the docstrings, which docs/protocol.md says for all languages
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": f"trainq's status picture, version {PICTURE_VERSION}", **root, "$defs": definitions}
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"


def _timeless(name: str, value: Any) -> Any:
    if name != "services":
        return value
    return [msgspec.structs.replace(service, age_seconds=None, uptime_seconds=None) for service in value]


class Follower:
    """A picture that is kept up to date from what is published. ``picture`` is None until a whole one has come."""

    def __init__(self) -> None:
        self.picture: StatusPicture | None = None
        # Something was missed: a whole picture is to be asked for (or waited for).
        self.is_behind = True

    def whole(self, picture: StatusPicture) -> None:
        """A whole picture came; an older one than is known (a late answer) is passed over."""
        known = self.picture
        if known is None or known.session != picture.session or picture.n >= known.n:
            self.picture, self.is_behind = picture, False

    def delta(self, delta: Delta) -> None:
        """A change came. One that is in the picture already is passed over."""
        known = self.picture
        if known is None or known.session != delta.session or delta.n > known.n + 1:
            self.is_behind = True
        elif delta.n == known.n + 1:
            document = {**msgspec.to_builtins(known), **delta.changed, "n": delta.n, "at": delta.at}
            self.picture = msgspec.convert(document, StatusPicture)

    def beat(self, beat: Beat) -> None:
        """The number of changes that there were."""
        known = self.picture
        if known is None or known.session != beat.session or beat.n > known.n:
            self.is_behind = True
        elif beat.n == known.n:
            self.picture = msgspec.structs.replace(known, at=beat.at, ages=beat.ages,
                                                   broker_age_seconds=beat.ages.broker)
