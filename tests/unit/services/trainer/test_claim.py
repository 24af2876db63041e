"""The claim to the GPU's memory: who is told that it may, and who goes on without."""

from services.trainer.claim import BROKER_SECONDS, Claim
from trainq.messages import HeartbeatReply


def test_only_the_reply_to_this_very_claim_grants_it() -> None:
    claim = Claim()
    assert not claim.is_granted(HeartbeatReply(), 0.0, has_job=True), "it was not even made"
    claim.hold(wanted=True)
    first = claim.number
    assert not claim.is_granted(HeartbeatReply(), 0.0, has_job=True)
    assert claim.is_granted(HeartbeatReply(gpu=first), 0.0, has_job=True)
    claim.hold(wanted=True)
    assert claim.number == first, "one that is held stays the same"
    claim.hold(wanted=False)
    assert (claim.number, claim.is_granted(HeartbeatReply(gpu=0), 0.0, has_job=True)) == (0, False)
    claim.hold(wanted=True)
    assert claim.number not in (0, first)
    late = HeartbeatReply(gpu=first)
    assert not claim.is_granted(late, 0.0, has_job=True), "it was on its way when the memory was given back"
    assert claim.is_granted(HeartbeatReply(gpu=claim.number, pause="paused by a person"), 0.0, has_job=True)


def test_a_broker_that_is_away_is_not_waited_for_but_its_order_holds() -> None:
    claim = Claim()
    claim.hold(wanted=True)
    assert not claim.is_granted(HeartbeatReply(), BROKER_SECONDS - 0.1, has_job=True)
    assert claim.is_granted(HeartbeatReply(), BROKER_SECONDS, has_job=True)
    assert not claim.is_granted(HeartbeatReply(pause="lend-1 (p) has the GPU"), 1e9, has_job=True)
    assert not claim.is_granted(HeartbeatReply(), 1e9, has_job=False), "nothing waits for it"


def test_after_a_rest_of_its_own_the_broker_is_waited_for_it_may_have_lent_the_memory_unheard() -> None:
    claim = Claim()
    claim.hold(wanted=True)
    claim.hold(wanted=False, rests=True)
    claim.hold(wanted=False)
    claim.hold(wanted=True)
    assert not claim.is_granted(HeartbeatReply(), 1e9, has_job=True)
    assert claim.is_granted(HeartbeatReply(gpu=claim.number), 0.0, has_job=True)
    claim.hold(wanted=False)
    claim.hold(wanted=True)
    assert claim.is_granted(HeartbeatReply(), BROKER_SECONDS, has_job=True), "nothing was lent since"
