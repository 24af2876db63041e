"""Who hangs: told by what is seen and when, never by what nobody saw; and restarted without a storm."""

from hypothesis import given
from hypothesis import strategies as st

from trainq.service.hanging import Hung, Sign, Step, Vigil

DUMP, KILL, LEAVE = Step.DUMP, Step.KILL, Step.LEAVE


class Story:
    """Looks once a second at one service, which may or may not go on."""

    def __init__(self) -> None:
        self.vigil = Vigil(silent_seconds=30.0, start_seconds=300.0)
        self.now = 1000.0
        self.pid, self.at = 7, 0

    def live(self, seconds: int) -> list[tuple[Step, float]]:
        """It goes on: a sign with each look."""
        return [step for _ in range(seconds) for step in self._look(sign=True)]

    def hang(self, seconds: int) -> list[tuple[Step, float]]:
        """It gives no sign."""
        return [step for _ in range(seconds) for step in self._look(sign=False)]

    def sleep(self, seconds: float) -> None:
        """Nobody looks."""
        self.now += seconds

    def is_restarted(self) -> None:
        self.pid += 1

    def _look(self, *, sign: bool) -> list[tuple[Step, float]]:
        self.now += 1.0
        self.at += sign
        return [(hung.step, hung.silent_seconds) for hung in
                self.vigil.look({"trainer": Sign(pid=self.pid, at=self.at)}, self.now)]


def test_one_that_hangs_is_told_to_dump_its_stacks_and_then_killed() -> None:
    story = Story()
    assert story.live(60) == []
    assert story.hang(30) == [(DUMP, 30.0)]
    assert story.hang(60) == [(KILL, 33.0)], "once: what the kernel does not let die, a second kill does not either"


def test_one_that_goes_on_is_never_touched() -> None:
    story = Story()
    for _ in range(200):
        assert story.live(1) + story.hang(28) == []


def test_a_dump_that_ends_it_is_enough() -> None:
    story = Story()
    story.live(1)
    story.live(1)
    assert story.hang(30) == [(DUMP, 30.0)]
    story.is_restarted()
    assert story.live(60) == []


def test_one_that_is_only_beginning_has_more_time() -> None:
    story = Story()
    assert story.hang(299) == []
    assert story.hang(3) == [(DUMP, 300.0)]


def test_where_nobody_looked_nothing_is_held_against_anybody() -> None:
    story = Story()
    story.live(5)
    story.sleep(8 * 3600)  # the machine slept, or the one who looks was stopped itself
    assert story.hang(19) == []
    assert story.live(60) == []


def test_each_restart_within_an_hour_comes_later_and_after_three_there_is_none() -> None:
    story = Story()
    for seconds in (30, 60, 120):
        story.live(2)
        assert story.hang(seconds - 1) == []
        assert story.hang(1) == [(DUMP, float(seconds))]
        story.is_restarted()
    story.live(2)
    assert story.hang(1000) == [(LEAVE, 240.0)], "said once"
    assert [step for step, _ in story.hang(2500)] == [DUMP, KILL], "its hour is over"


def test_one_that_is_spared_counts_anew_and_costs_no_restart() -> None:
    story = Story()
    story.live(2)
    for _ in range(5):
        assert story.hang(30) == [(DUMP, 30.0)]
        story.vigil.spare("trainer")


def test_nobody_holds_the_lock() -> None:
    vigil = Vigil(silent_seconds=30.0, start_seconds=300.0)
    for now in range(1000):
        assert vigil.look({"trainer": Sign(pid=0, at=0)}, float(now)) == []


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 10_000)), max_size=300))
def test_whatever_happens_there_is_no_storm(looks: list[tuple[bool, bool, float]]) -> None:
    vigil = Vigil(silent_seconds=30.0, start_seconds=60.0)
    now, pid, at = 0.0, 1, 0
    begun: list[float] = []
    for sign, is_new, seconds in looks:
        now, pid, at = now + seconds, pid + is_new, at + sign
        found: list[Hung] = vigil.look({"x": Sign(pid=pid, at=at)}, now)
        assert not (found and (sign or is_new)), "it has just been seen to go on"
        begun += [now for hung in found if hung.step is DUMP]
        assert sum(now - each < 3600 for each in begun) <= 3
