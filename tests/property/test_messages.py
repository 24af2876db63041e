"""Any bytes give a valid message or one error class; what is encoded is decoded again."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from trainq import messages
from trainq.errors import ProtocolError, TrainqError
from trainq.ids import ID_PATTERN
from trainq.jobs import JobKind, JobState, Priority

IDS = st.from_regex(ID_PATTERN, fullmatch=True)
TEXTS = st.text(max_size=50)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
ITEMS = st.builds(
    messages.SubmitItem, request_id=IDS, name=st.text(min_size=1, max_size=50), digest=DIGESTS,
    size_bytes=st.integers(0, 2**60), priority=st.sampled_from(Priority), after=st.lists(IDS, max_size=3).map(tuple),
    force=st.booleans(),
    overrides=st.builds(messages.Overrides, epochs=st.none() | st.integers(1, 1000),
                        learning_rate=st.just(UNSET) | st.floats(1e-9, 1), seed=st.just(UNSET) | st.integers(0, 9),
                        schedule=st.just(UNSET) | st.sampled_from(("constant", "cosine", "linear", "wsd")),
                        gradient_checkpointing=st.just(UNSET) | st.booleans(),
                        map=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3)))
PROGRESS = st.builds(messages.Progress, step=st.integers(0, 2**40), loss=st.none() | st.floats(allow_nan=False))
REQUESTS = st.one_of(
    st.builds(messages.Submit, request_id=IDS, items=st.lists(ITEMS, min_size=1, max_size=3)),
    st.builds(messages.TakeLease, request_id=IDS, worker=IDS, session=IDS,
              kinds=st.lists(st.sampled_from(JobKind), min_size=1, max_size=2).map(tuple)),
    st.builds(messages.Heartbeat, request_id=IDS, service=IDS, session=IDS, pid=st.integers(0, 2**22),
              state=st.sampled_from(messages.Lifecycle), detail=TEXTS,
              leases=st.lists(st.builds(messages.LeaseState, job=IDS, token=st.integers(1, 2**60), progress=PROGRESS),
                              max_size=2).map(tuple)),
    st.builds(messages.Complete, request_id=IDS, job=IDS, token=st.integers(1, 2**60), worker=IDS, session=IDS,
              result=st.builds(messages.RejectResult, reason=TEXTS, report=st.dictionaries(TEXTS, st.integers(0, 9)))),
    st.builds(messages.Cancel, request_id=IDS, job=IDS, reason=TEXTS),
    st.builds(messages.ListJobs, request_id=IDS, states=st.lists(st.sampled_from(JobState), max_size=3).map(tuple),
              before_number=st.none() | st.integers(0, 2**40), limit=st.integers(1, 1000)),
    st.builds(messages.Replay, request_id=IDS, after_seq=st.integers(0, 2**60)),
)


@given(REQUESTS)
def test_requests_come_back_as_they_were(request: messages.AnyRequest) -> None:
    assert messages.decode_request(messages.encode(request)) == request


@given(REQUESTS, st.dictionaries(st.text(min_size=20, max_size=25), st.integers(0, 9), max_size=2))
def test_unknown_fields_are_tolerated(request: messages.AnyRequest, extra: dict[str, int]) -> None:
    fields = msgpack.unpackb(messages.encode(request))
    assert messages.decode_request(msgpack.packb({**fields, **extra})) == request


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_one_error(payload: bytes) -> None:
    for decode in (messages.decode_request, messages.decode_reply, messages.decode_event, messages.decode_live):
        with contextlib.suppress(ProtocolError):
            decode(payload)
    assert isinstance(messages.request_id_of(payload), str)


@given(REQUESTS, st.data())
def test_a_damaged_message_is_a_message_or_one_error(request: messages.AnyRequest, data: st.DataObject) -> None:
    payload = bytearray(messages.encode(request))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        messages.decode_request(bytes(payload))


@pytest.mark.parametrize("change", [
    {"v": 2}, {"type": "Nonsense"}, {"request_id": "UPPER"}, {"request_id": ""}, {"request_id": "x" * 65},
    {"request_id": "a\n"}, {"limit": 0}, {"limit": 1001}, {"kinds": ["nothing"]}])
def test_what_is_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        messages.decode_request(msgpack.packb({"v": 1, "type": "ListJobs", "request_id": "x", **change}))


def test_bombs_are_refused() -> None:
    nested = b"\x91" * 100_000
    oversized = b"\xc4" + bytes(messages.MAX_MESSAGE_BYTES)
    many = msgpack.packb({"v": 1, "type": "Submit", "request_id": "x", "items": [{}] * (messages.MAX_SUBMITS + 1)})
    for bomb in (nested, oversized, many):
        with pytest.raises(ProtocolError):
            messages.decode_request(bomb)


def test_what_could_never_be_told_again_is_refused() -> None:
    item = {"request_id": "x", "name": "a", "digest": "0" * 64, "size_bytes": 1}
    for overrides in ({"map": {"a": "b" * 257}}, {"map": {str(n): "b" for n in range(65)}}):
        submit = {"v": 1, "type": "Submit", "request_id": "x", "items": [{**item, "overrides": overrides}]}
        with pytest.raises(ProtocolError):
            messages.decode_request(msgpack.packb(submit))
    result = {"type": "RejectResult", "reason": "r", "report": {"x": "y" * messages.MAX_REPORT_BYTES}}
    complete = {"v": 1, "type": "Complete", "request_id": "x", "job": "a", "token": 1, "worker": "w", "session": "s",
                "result": result}
    with pytest.raises(ProtocolError, match="report"):
        messages.decode_request(msgpack.packb(complete))
    beat = {"v": 1, "type": "Heartbeat", "request_id": "x", "service": "s", "session": "s", "state": "RUNNING"}
    with pytest.raises(ProtocolError):
        messages.decode_request(msgpack.packb({**beat, "pid": 2**40}))


def test_the_id_of_a_broken_request_is_found() -> None:
    assert messages.request_id_of(msgpack.packb({"type": "Nonsense", "request_id": "abc"})) == "abc"


@pytest.mark.parametrize("code", ["usage", "not_found", "storage_full", "storage", "protocol", "request_reused"])
def test_a_refusal_comes_back_as_its_error(code: str) -> None:
    with pytest.raises(TrainqError, match="why") as caught:
        messages.raise_refusal(messages.Refused(code=code, message="why", mend="so"))
    assert (caught.value.code, caught.value.mend) == (code, "so")


@pytest.mark.parametrize("code", ["transition", "stale_lease", "something newer"])
def test_a_refusal_without_a_class_keeps_its_code(code: str) -> None:
    with pytest.raises(messages.RefusedError, match="why") as caught:
        messages.raise_refusal(messages.Refused(code=code, message="why"))
    assert caught.value.refused_code == code


@pytest.mark.parametrize(("wish", "reason"), [
    ({"learning_rat": 0.1}, "learning_rat"), ({"threads": 2}, "threads"), ({"learning_rate": 7}, "<= 1.0"),
    ({"schedule": "cosin"}, "cosin"), ({"precision": 16}, "precision"), ({"epochs": 0}, ">= 1"),
    ({"max_grad_norm": float("nan")}, "max_grad_norm")])
def test_a_wish_that_is_not_understood_is_refused_and_named(wish: dict[str, object], reason: str) -> None:
    """Elsewhere an unknown field is passed over; a wish passed over would train otherwise than was asked."""
    item = {"request_id": "r", "name": "a", "digest": "0" * 64, "size_bytes": 1, "overrides": wish}
    body = {"v": 1, "type": "Submit", "request_id": "r", "items": [item]}
    with pytest.raises(ProtocolError, match=reason):
        messages.decode_request(msgpack.packb(body))
    messages.decode_request(msgpack.packb({**body, "items": [{**item, "overrides": {}, "learning_rat": 0.1}]}))
