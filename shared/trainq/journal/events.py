"""Events as bytes: how they are written into the journal and read back."""

from __future__ import annotations

import msgspec

from trainq.errors import DamageError
from trainq.jobs import AnyEvent

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyEvent)


def encode_event(event: AnyEvent) -> bytes:
    """The event's bytes; its hash is over exactly these."""
    return _encoder.encode(event)


def decode_event(body: bytes, seq: int) -> AnyEvent:
    """An event from its bytes.

    Raises:
        DamageError: naming the event's number.
    """
    try:
        event: AnyEvent = _decoder.decode(body)
    # ValueError: msgspec raises it bare for invalid UTF-8.
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise DamageError("the journal", f"event {seq} cannot be read: {error}",
                          mend="stop trainq and restore a backup of the home") from error
    return event
