"""Every decoder of what another process says: any bytes give valid messages, or the one error that says so."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer import wire
from trainq import messages
from trainq.errors import DamageError, ProtocolError
from trainq.jobs import JobKind, JobState, JobSucceeded, LeaseEnded, Priority, QueueHeld
from trainq.journal.events import decode_event, encode_event

VIEW = messages.JobView(
    id="train-1", number=1, kind=JobKind.TRAIN, state=JobState.QUEUED, name="a", priority=Priority.NORMAL.name,
    origin="people", digest="0" * 64, size_bytes=1, prepared=True, rows=1, tokens=1, attempts=0, failures=0,
    submitted_at=1.0, started_at=None, ended_at=None, retry_at=0.0, reason="", cancel_reason=None, result={"a": [1]})
BEAT = messages.Heartbeat(request_id="r", service="s", session="s", pid=1, state=messages.Lifecycle.RUNNING,
                          leases=(messages.LeaseState(job="train-1", token=1),))
# A valid message of each sort, and who decodes it.
Decoder = tuple[Callable[[bytes], object], type[Exception]]
DECODERS: dict[str, tuple[Decoder, list[bytes]]] = {
    "request": ((messages.decode_request, ProtocolError), [
        messages.encode(BEAT), messages.encode(messages.ListJobs(request_id="r", limit=3))]),
    "reply": ((messages.decode_reply, ProtocolError), [
        messages.encode(messages.ReplyEnvelope(request_id="r", reply=reply)) for reply in (
            messages.JobList(jobs=[VIEW]), messages.Refused(code="usage", message="m"), messages.Done(seq=7))]),
    "event": ((messages.decode_event, ProtocolError), [
        messages.encode(messages.EventView(seq=1, at=1.0, type="T", job="train-1", body={"a": {"b": [1, None]}}))]),
    "live": ((messages.decode_live, ProtocolError), [messages.encode(messages.Live(heartbeat=BEAT))]),
    "journal": ((lambda body: decode_event(body, 7), DamageError), [encode_event(event) for event in (
        JobSucceeded(job="train-1", result={"generation": 3}), LeaseEnded(job="train-1", reason="r", died=True, step=4),
        QueueHeld(reason="r", seconds=1.0))]),
}
WIRE = [msgspec.msgpack.encode(message) for message in (
    wire.Cancelled(job="train-1", taken_back=1), wire.Failed(job="train-1", system=True, code="c", reason="r"),
    wire.Progress(job="train-1", job_step=1, steps_planned=9, global_step=1, loss=1.0, learning_rate=0.1,
                  tokens_per_second=1.0, steps_this_run=1, elapsed_seconds=1.0))]
BOMBS = [b"\x91" * 100_000, b"\x81\xa1x" * 50_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
         b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc1", b"", b"\xa4type"]
_SETTINGS = settings(max_examples=40, deadline=None)


@st.composite
def mutated(draw: st.DrawFn, valid: list[bytes]) -> bytes:
    """A valid message with bytes changed, cut out or put in, or with a field of another type."""
    payload = bytearray(draw(st.sampled_from(valid)))
    if draw(st.booleans()):
        fields = msgpack.unpackb(bytes(payload), strict_map_key=False)
        name = draw(st.sampled_from(sorted(fields)))
        fields[name] = draw(st.one_of(st.none(), st.integers(-2**63, 2**64 - 1), st.floats(), st.text(max_size=9),
                                      st.binary(max_size=9), st.lists(st.integers(0, 9), max_size=3),
                                      st.dictionaries(st.integers(0, 9), st.none(), max_size=3)))
        return bytes(msgpack.packb(fields))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload)))
        payload[at:at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(payload)


@pytest.mark.parametrize("name", sorted(DECODERS))
@_SETTINGS
@given(data=st.data())
def test_a_decoder_knows_one_error(name: str, data: st.DataObject) -> None:
    (decode, error), valid = DECODERS[name]
    with contextlib.suppress(error):
        decode(data.draw(st.one_of(mutated(valid), st.binary(max_size=80))))


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_bombs_are_that_error(name: str, bomb: bytes) -> None:
    (decode, error), valid = DECODERS[name]
    for payload in (bomb, *(whole + bomb for whole in valid), *(whole[:-1] + bomb for whole in valid)):
        with contextlib.suppress(error):
            decode(payload)
    with pytest.raises(error):
        decode(bomb)


def heard(*chunks: bytes) -> list[object]:
    """What a channel makes of these bytes; what was sent after the end of its patience is not read."""
    ours, theirs = socket.socketpair()
    channel = wire.Channel(ours, wire.FromTraining)
    try:
        theirs.setblocking(False)
        for chunk in chunks:
            with contextlib.suppress(BlockingIOError):
                theirs.send(chunk)
        theirs.close()
        return channel.receive()
    finally:
        channel.close()
        theirs.close()


@_SETTINGS
@given(data=st.data())
def test_what_a_training_process_says_is_messages_or_one_error(data: st.DataObject) -> None:
    body = data.draw(st.one_of(mutated(WIRE), st.binary(max_size=80)))
    with contextlib.suppress(ProtocolError):
        heard(struct.pack(">I", len(body)) + body)
    with contextlib.suppress(ProtocolError):
        heard(body)


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_training_process_s_bombs_are_that_error(bomb: bytes) -> None:
    with pytest.raises(ProtocolError):
        heard(struct.pack(">I", len(bomb)) + bomb)


@pytest.mark.parametrize("version", [0, 2, 99, 2**63])
@pytest.mark.parametrize("name", ["request", "reply", "event", "live"])
def test_another_version_is_named(name: str, version: int) -> None:
    (decode, _), valid = DECODERS[name]
    fields = {**msgpack.unpackb(valid[0]), "v": version, "type": "OfThatVersion", "reply": None, "heartbeat": None,
              "body": 3}
    with pytest.raises(ProtocolError, match=f"version {version} of the protocol, and 1 is known") as caught:
        decode(msgpack.packb(fields))
    assert "both sides" in caught.value.mend
