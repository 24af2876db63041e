"""Bytes to messages and back: the one place where what comes in is judged."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import msgspec

from trainq import errors
from trainq.messages.replies import Live, PublishedEvent, Refused, ReplyEnvelope
from trainq.messages.requests import AnyRequest
from trainq.messages.work import MAX_MESSAGE_BYTES, PROTOCOL_VERSION

EVENT_TOPIC = b"event."
LIVE_TOPIC = b"live."

# What msgspec raises for bytes that are no message. ValueError, bare: invalid UTF-8; RecursionError: nesting bombs;
# MemoryError: a header that claims more than there can be.
UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError, MemoryError)

Kind = TypeVar("Kind", bound=msgspec.Struct)

_encoder = msgspec.msgpack.Encoder()


class _Envelope(msgspec.Struct, frozen=True):
    request_id: str = ""


class _Version(msgspec.Struct, frozen=True):
    v: int | None = None


@functools.cache
def _decoder_of(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Made when it is first used: compiling the big unions takes milliseconds, and no process needs all of them."""
    return msgspec.msgpack.Decoder(kind)


def encode(message: msgspec.Struct) -> bytes:
    """The msgpack bytes of any message of this module."""
    return _encoder.encode(message)


def decode_request(payload: bytes) -> AnyRequest:
    """A valid request, or :class:`~trainq.errors.ProtocolError`."""
    request: AnyRequest = _decode(AnyRequest, payload)
    return request


def decode_reply(payload: bytes) -> ReplyEnvelope:
    """A valid reply, or :class:`~trainq.errors.ProtocolError`."""
    reply: ReplyEnvelope = _decode(ReplyEnvelope, payload)
    return reply


def expect_replies() -> None:
    """Make what decodes replies (two milliseconds, once): good to do while a first reply is on its way."""
    _decoder_of(ReplyEnvelope)


def decode_event(payload: bytes) -> PublishedEvent:
    """A valid published event, or :class:`~trainq.errors.ProtocolError`."""
    event: PublishedEvent = _decode(PublishedEvent, payload)
    return event


def decode_live(payload: bytes) -> Live:
    """A valid live message, or :class:`~trainq.errors.ProtocolError`."""
    live: Live = _decode(Live, payload)
    return live


def decode_as(kind: type[Kind], payload: bytes) -> Kind:
    """A valid message of this very type, or :class:`~trainq.errors.ProtocolError`."""
    found: Kind = _decode(kind, payload)
    return found


def request_id_of(payload: bytes) -> str:
    """The id of a request that could not be decoded, so that its sender can be told; empty if there is none."""
    envelope: _Envelope | None = _part_of(payload, _Envelope)
    return "" if envelope is None else envelope.request_id[:64]


def _version_of(payload: bytes) -> int | None:
    """The version that a message says to be of; None if it does not say, or is no message."""
    version: _Version | None = _part_of(payload, _Version)
    return None if version is None else version.v


def _part_of(payload: bytes, kind: Any) -> Any:
    """Some fields of a message that is not valid as a whole; None if they cannot be read."""
    try:
        return _decoder_of(kind).decode(payload)
    except UNDECODABLE:
        return None


def _decode(kind: Any, payload: bytes) -> Any:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise errors.ProtocolError(f"a message of {len(payload)} bytes is over the limit of {MAX_MESSAGE_BYTES}",
                                   mend="split it")
    try:
        return _decoder_of(kind).decode(payload)
    except UNDECODABLE as error:
        if (version := _version_of(payload)) not in (None, PROTOCOL_VERSION):
            raise errors.ProtocolError(
                f"it speaks version {version} of the protocol, and {PROTOCOL_VERSION} is known here",
                mend="use the trainq that the broker's home is run with, on both sides") from error
        raise errors.ProtocolError(f"not a message of protocol version {PROTOCOL_VERSION}: {error}",
                                   mend="see docs/protocol.md") from error


_ERROR_CLASSES: dict[str, type[errors.TrainqError]] = {
    cls.code: cls
    for cls in (errors.UsageError, errors.InputError, errors.NotFoundError, errors.StorageFullError,
                errors.StorageError, errors.ProtocolError, errors.RequestReusedError, errors.BusyError)
}


def refusal(error: errors.TrainqError) -> Refused:
    """The reply that tells a client of ``error``."""
    return Refused(code=error.code, message=error.message, mend=error.mend)


class RefusedError(errors.TrainqError):
    """The broker refused, with a code for which there is no class of its own on this side."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message, mend=refused.mend)
        self.refused_code = refused.code


def raise_refusal(refused: Refused) -> None:
    """Raise the error class that stands for the broker's refusal."""
    if refused.code in (errors.StaleLeaseError.code, errors.TransitionError.code):
        error = RefusedError(refused)
        error.exit_code = errors.TransitionError.exit_code
        raise error
    cls = _ERROR_CLASSES.get(refused.code)
    if cls is None or cls is errors.InputError:
        raise RefusedError(refused)
    raise cls(refused.message, mend=refused.mend)
