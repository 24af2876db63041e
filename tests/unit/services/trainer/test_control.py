"""Every state of the agent and every command: what comes of each pair, and of any sequence of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.trainer.phases import Phase
from tests.unit.services.trainer.simulation import STEPS, Simulation
from trainq.service.work import Interruption


def loading() -> Simulation:
    made = Simulation()
    made.turn()
    return made


def idle() -> Simulation:
    made = loading()
    made.pass_time()
    assert made.assignment.wants_job
    return made


def begun() -> Simulation:
    """The job is leased, and no step done."""
    made = idle()
    made.lease()
    return made


def training() -> Simulation:
    made = begun()
    for _ in range(3):
        made.turn()
        made.pass_time()
    assert made.assignment.phase is Phase.TRAINING
    return made


def saving() -> Simulation:
    """It was paused, and has not ended yet."""
    made = training()
    made.pause = "lunch"
    made.turn()
    assert made.assignment.phase is Phase.LEAVING
    return made


def paused() -> Simulation:
    made = saving()
    made.settle()
    assert made.assignment.phase is Phase.DORMANT
    return made


def loading_after_a_pause() -> Simulation:
    made = paused()
    made.pause = ""
    made.turn()
    assert made.assignment.phase is Phase.STARTING
    return made


def paused_without_a_job() -> Simulation:
    made = idle()
    made.pause = "lunch"
    made.settle()
    return made


def asleep() -> Simulation:
    """There was nothing to do for long."""
    made = idle()
    made.perform(made.assignment.idle_for_long())
    made.settle()
    assert made.assignment.phase is Phase.DORMANT
    return made


def restarting() -> Simulation:
    """The process has died in the middle of the job."""
    made = training()
    made.die()
    return made


def being_cut() -> Simulation:
    """It waits until the broker has recorded that the job ends here."""
    made = training()
    made.wanted = Interruption.KEEP
    made.turn()
    assert made.process is not None
    return made


def being_taken_back() -> Simulation:
    made = training()
    made.wanted = Interruption.CANCELLED
    made.turn()
    return made


def restoring() -> Simulation:
    made = idle()
    made.restore()
    return made


STATES: list[Callable[[], Simulation]] = [
    loading, idle, begun, training, saving, paused, loading_after_a_pause, paused_without_a_job, asleep, restarting,
    being_cut, being_taken_back, restoring]


def _pause(made: Simulation) -> None:
    made.pause = "lunch"


def _resume(made: Simulation) -> None:
    made.pause = made.stop = ""


def _stop(made: Simulation) -> None:
    made.stop = "enough"


def _cancel(made: Simulation) -> None:
    made.wanted = Interruption.CANCELLED


def _keep(made: Simulation) -> None:
    # The broker remembers one wish: one that came first and takes the steps out is not heard of again.
    made.wanted = Interruption.KEEP


def _lose(made: Simulation) -> None:
    made.wanted = Interruption.LOST


def _checkpoint(made: Simulation) -> None:
    made.perform(made.assignment.checkpoint_asked() or [])


def _shut_down(made: Simulation) -> None:
    made.perform(made.assignment.stop())


def _kill(made: Simulation) -> None:
    made.die()


COMMANDS = [_pause, _resume, _stop, _cancel, _keep, _lose, _checkpoint, _shut_down, _kill]


def expected_end(state: str, command: str, job: str, paused_before: bool) -> str:
    """How the job that is held ends, or that it stays held."""
    if not job:
        return "none"
    if job.startswith("restore"):
        return {"_cancel": "DropLease", "_keep": "DropLease", "_lose": "ForgetJob",
                "_shut_down": "ReleaseJob"}.get(command, "DropLease")
    if state == "being_taken_back":
        return {"_lose": "ForgetJob", "_shut_down": "ReleaseJob"}.get(command, "AcknowledgeCancel")
    if command == "_cancel":
        return "AcknowledgeCancel"
    if state == "being_cut":
        return {"_lose": "ForgetJob", "_shut_down": "ReleaseJob"}.get(command, "CompleteJob")
    if command == "_keep":
        return "AcknowledgeCancel" if state == "begun" else "CompleteJob"
    if command in ("_lose", "_stop", "_shut_down"):
        return {"_lose": "ForgetJob"}.get(command, "ReleaseJob")
    rests = command == "_pause" or (paused_before and command != "_resume")
    return "held" if rests else "CompleteJob"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_state_and_every_command(state: Callable[[], Simulation], command: Callable[[Simulation], None]) -> None:
    made = state()
    job, paused_before = made.assignment.job, bool(made.pause)
    command(made)
    made.settle()
    ends = [how for ended, how in made.ended if ended == job]
    wanted = expected_end(state.__name__, command.__name__, job, paused_before)
    if wanted in ("held", "none"):
        assert not ends
        assert bool(made.assignment.job) is (wanted == "held")
    else:
        assert ends == [wanted]
        assert not made.assignment.job
    # The memory is free exactly while nothing may be done, or nobody is there to do it.
    rests = bool(made.pause or made.stop) or made.assignment.stopping
    sleeps = state is asleep
    assert (made.process is None) is (rests or sleeps)
    if wanted == "CompleteJob":
        cut = command.__name__ == "_keep" or state is being_cut
        assert (made.kept_steps[job] < STEPS) is (cut and made.kept_steps[job] != STEPS)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_after_whatever_was_ordered_a_resume_has_the_job_go_on(state: Callable[[], Simulation]) -> None:
    for command in (_pause, _stop, _kill, _checkpoint):
        made = state()
        command(made)
        made.settle()
        _resume(made)
        made.settle()
        if not made.assignment.job:
            made.lease()
        made.settle()
        assert made.assignment.phase in (Phase.IDLE, Phase.DORMANT)
        assert made.ended[-1][1] in ("CompleteJob", "AcknowledgeCancel", "DropLease")


def test_no_process_passes_the_step_of_an_effect_of_which_nobody_knows() -> None:
    made = training()
    made.broker_is_away = True
    made.wanted = Interruption.KEEP
    made.turn()
    made.pass_time()
    assert made.process is not None
    assert made.process.waits
    made.die()
    made.settle()
    assert made.assignment.phase is Phase.IDLE, "it is up, and waits for the broker"
    made.broker_is_away = False
    made.settle()
    assert made.ended == [("train-1", "CompleteJob")]
    assert made.kept_steps["train-1"] < STEPS


class AnyOrder(RuleBasedStateMachine):
    """Whatever is ordered and dies in whatever order: one process, one end for each lease, free memory at rest."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Simulation()
        self.leased: list[str] = []

    @rule(turns=st.integers(1, 4))
    def go_on(self, turns: int) -> None:
        for _ in range(turns):
            self.made.turn()
            self.made.pass_time()

    @rule()
    def only_the_agent(self) -> None:
        self.made.turn()

    @rule()
    def only_the_process(self) -> None:
        self.made.pass_time()

    @rule(restore=st.booleans())
    @precondition(lambda self: not self.made.assignment.job)
    def lease(self, restore: bool) -> None:
        job = self.made.restore() if restore else self.made.lease()
        self.leased += [job] if job else []

    @rule(command=st.sampled_from([_pause, _resume, _stop, _checkpoint, _kill]))
    def order(self, command: Callable[[Simulation], None]) -> None:
        command(self.made)

    @rule(command=st.sampled_from([_cancel, _keep, _lose]))
    @precondition(lambda self: self.made.assignment.job and not self.made.broker_is_away)
    def end_the_job(self, command: Callable[[Simulation], None]) -> None:
        if command is _keep and self.made.wanted is not None:
            return
        command(self.made)

    @rule(away=st.booleans())
    def lose_or_find_the_broker(self, away: bool) -> None:
        self.made.broker_is_away = away

    @rule()
    def rest(self) -> None:
        self.made.perform(self.made.assignment.idle_for_long())

    @invariant()
    def one_end_each(self) -> None:
        ended = [job for job, _ in self.made.ended]
        assert len(ended) == len(set(ended))
        assert set(ended) | ({self.made.assignment.job} - {""}) == set(self.leased)

    @invariant()
    def a_process_exactly_where_one_is_expected(self) -> None:
        gone = self.made.assignment.phase in (Phase.DORMANT, Phase.ABSENT, Phase.PAUSED)
        assert (self.made.process is None) is gone

    def teardown(self) -> None:
        made = self.made
        made.broker_is_away = False
        made.pause = "at last"
        made.settle()
        if made.assignment.phase is not Phase.PAUSED:
            assert made.process is None, "at rest the memory is free"
        _resume(made)
        made.settle()
        assert not made.assignment.job or made.assignment.phase is Phase.PAUSED
        made.perform(made.assignment.stop())
        made.settle()
        assert made.process is None


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=30, deadline=None,
                                 suppress_health_check=[HealthCheck.filter_too_much])
