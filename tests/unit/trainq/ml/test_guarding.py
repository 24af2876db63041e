"""What goes wrong in a step is decided, recorded, and the same wherever the job is killed and resumed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from tests.unit.trainq.ml import tiny
from tests.unit.trainq.ml.test_training import everything, head, metric_lines
from tests.unit.trainq.ml.tiny import SETTINGS, MakeShard, Script, job_over, start
from trainq import checkpoints, files
from trainq.checkpoints import Cursor
from trainq.config import GuardSettings, Home
from trainq.errors import InputError, MaskingError, MemoryShortError, SpoiledMemoryError, WeightsNotFiniteError
from trainq.jobs import Effect, EffectKind, batches_left_out
from trainq.ml import checkpointing, guards, stepfaults
from trainq.ml.guards import OUT_OF_BAND, SKIPPED
from trainq.ml.line import ModelLine
from trainq.ml.metrics import StepMetrics
from trainq.ml.training import Ending, Job, OtherEffectsError, Outcome, Wish
from trainq.shards import ShardWriter

# A model is trained in each of them, again and again; the rules alone are in test_guards.
pytestmark = pytest.mark.slow

LENGTHS = (5, 9, 3, 12, 7, 4, 8, 6, 10, 11, 5, 7)  # 12 rows: 4 steps an epoch
STEPS = 16
SETTINGS_HERE = msgspec.structs.replace(SETTINGS, epochs=4, checkpoint_steps=2, checkpoint_max_share=1.0)
GUARD = GuardSettings(max_skipped_share=0.5, settle_steps=3)

Order = Callable[..., None]


@pytest.fixture
def order(tmp_path: Path) -> Iterator[Order]:
    """Order a fault of the steps."""
    folder = tmp_path / "step-faults"
    folder.mkdir()

    def ordered(*names: str, content: str = "ever") -> None:
        for name in names:
            (folder / name).write_text(content)
        stepfaults.arm(str(folder))

    yield ordered
    stepfaults.arm("")


@pytest.fixture
def job(make_shard: MakeShard) -> Job:
    return replace(job_over(make_shard(LENGTHS), settings=SETTINGS_HERE), guard=GUARD)


def train(line: ModelLine, job: Job, home: Home, script: Script | None = None) -> tuple[Outcome, Script]:
    """What is written beside the steps is on the disk before the next one ends: what comes when is then certain."""
    script = script or Script()
    script._line = line
    return tiny.train(line, job, home, script)


def another_home(tmp_path: Path, name: str) -> Home:
    made = Home(tmp_path / name)
    for folder in made.folders():
        files.make_directory(folder)
    return made


def steps_of(script: Script, kind: EffectKind = EffectKind.SKIP_BATCH) -> list[int]:
    return sorted(effect.step for effect in script.effects if effect.kind is kind)


def marks(home: Home) -> dict[int, tuple[str, ...]]:
    """By the job's step at which a generation was published."""
    facts = [checkpoints.read_facts(path) for path in checkpoints.list_generations(home.checkpoints)]
    return {each.cursor.job_step: each.marks for each in reversed(facts)}


class Killed(BaseException):
    """The process is killed here."""


class Dying(Script):
    """Is killed after so many steps, or in a decision: before it is recorded, or after."""

    def __init__(self, steps: int = 10**6, *, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self._steps, self._before, self._after = steps, before, after

    def stepped(self, metrics: object, cursor: object) -> None:
        super().stepped(metrics, cursor)  # type: ignore[arg-type]
        if len(self.steps) == self._steps:
            raise Killed

    def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
        if len(self.decided) + 1 == self._before:
            raise Killed
        super().decide(effects, reason)
        if len(self.decided) == self._after:
            raise Killed
        return True


def resumed(home: Home, job: Job, died: Script) -> Script:
    """The next life: all from the newest generation, and the effects that were recorded."""
    outcome, script = train(checkpointing.restore(head(home)), replace(job, effects=died.effects), home)
    assert outcome.ending is Ending.FINISHED
    return script


def test_one_batch_that_is_no_number_is_left_out(tiny_model: Path, home: Home, tmp_path: Path, job: Job,
                                                 order: Order) -> None:
    order("nan.job-1.5")
    outcome, script = train(start(tiny_model, home), job, home)
    assert outcome.ending is Ending.FINISHED
    assert steps_of(script) == [5]
    assert "loss nan" in script.decided[0][1]
    assert "lines [" in script.decided[0][1]
    assert [line["job_step"] for line in metric_lines(home)] == [1, 2, 3, 4, 5, *range(7, STEPS + 1)]
    facts = head(home).facts
    assert (facts.step, facts.cursor.done, facts.cursor.effects) == (STEPS - 1, True, script.effects)
    assert {step: bool(found) for step, found in marks(home).items()} == {
        0: False, 2: False, 4: False, 7: True, 9: False, 11: False, 13: False, 15: False, 16: False}
    assert marks(home)[7] == (SKIPPED,)
    # Undisturbed, with what was recorded, and nothing that fails: as the checker's driver does it.
    stepfaults.arm("")
    driven = another_home(tmp_path, "driven")
    train(start(tiny_model, driven), replace(job, effects=script.effects), driven)
    assert everything(driven) == everything(home)


@pytest.mark.parametrize("die", [*(Dying(steps) for steps in (3, 6)),
                                 *(Dying(before=number) for number in (1, 3)),
                                 *(Dying(after=number) for number in (1, 3))],
                         ids=lambda die: f"{die._steps}-{die._before}-{die._after}")
def test_three_in_a_row_go_back_to_the_newest_generation_wherever_it_is_killed(
        tiny_model: Path, home: Home, tmp_path: Path, job: Job, order: Order, die: Dying) -> None:
    order("nan.job-1.5", "nan.job-1.6", "nan.job-1.7")
    calm = another_home(tmp_path, "calm")
    _, script = train(start(tiny_model, calm), job, calm)
    assert steps_of(script) == [4, 5, 6, 7], "step 4 was done, and no generation held it"
    assert len(script.decided) == 3
    with pytest.raises(Killed):
        train(start(tiny_model, home), job, home, die)
    second = resumed(home, job, die)
    assert sorted({*steps_of(die), *steps_of(second)}) == [4, 5, 6, 7]
    assert everything(home) == everything(calm)
    assert head(home).facts.marks == head(calm).facts.marks
    assert head(home).facts.cursor.effects == head(calm).facts.cursor.effects


def test_before_any_generation_of_the_job_it_goes_back_to_its_beginning(tiny_model: Path, home: Home, job: Job,
                                                                        order: Order) -> None:
    order("nan.job-1.1", "nan.job-1.2", "nan.job-1.3")
    job = replace(job, settings=msgspec.structs.replace(SETTINGS_HERE, checkpoint_steps=0))
    line = start(tiny_model, home)
    _, script = train(line, job, home)
    assert steps_of(script) == [0, 1, 2, 3]
    assert [line["job_step"] for line in metric_lines(home)] == list(range(5, STEPS + 1))
    assert (head(home).facts.step, head(home).facts.base) == (STEPS - 4, "g000001-s00000000")
    assert line.facts == line.head == head(home).facts, "who holds the line has the one of now"


def test_a_short_file_is_not_lost_with_its_last_batches(tiny_model: Path, home: Home, tmp_path: Path, job: Job,
                                                        order: Order) -> None:
    order("nan.job-1.13", "nan.job-1.14", "nan.job-1.15")
    job = replace(job, settings=msgspec.structs.replace(SETTINGS_HERE, checkpoint_steps=0),
                  guard=msgspec.structs.replace(GUARD, max_skipped_share=0.25))
    outcome, script = train(start(tiny_model, home), job, home)
    assert steps_of(script) == [12, 13, 14, 15], "a quarter of its 16"
    assert [line["job_step"] for line in metric_lines(home)] == list(range(1, 13))
    facts = head(home).facts
    assert (outcome.ending, facts.step, facts.cursor.done, batches_left_out(facts.cursor.effects, 16)) == (
        Ending.FINISHED, 12, True, 4)
    stepfaults.arm("")
    driven = another_home(tmp_path, "driven")
    train(start(tiny_model, driven), replace(job, effects=script.effects), driven)
    assert everything(driven) == everything(home)


def test_what_is_left_out_at_the_beginning_is_no_part_of_the_mean(tiny_model: Path, home: Home, job: Job,
                                                                  order: Order) -> None:
    line = start(tiny_model, home)
    line.facts = msgspec.structs.replace(line.facts, metrics={"loss_mean": 1e6})
    order("nan.job-1.0")
    train(line, job, home)
    losses = [each["loss"] for each in metric_lines(home)]
    assert head(home).facts.metrics["loss_mean"] == pytest.approx(sum(losses) / len(losses))


def test_the_same_again_fails_with_the_lines_and_the_line_is_as_it_was(tiny_model: Path, home: Home, job: Job,
                                                                       order: Order) -> None:
    order("nan.any.every")
    line = start(tiny_model, home)
    script = Script()
    with pytest.raises(InputError, match=r"at step 4: not finite.*taken back once.*lines \[\d"):
        train(line, job, home, script)
    assert steps_of(script) == [0, 1, 2]
    assert line.facts.step == 0
    assert not line.optimizer.state


def test_a_small_file_of_which_too_much_would_be_left_out_fails_at_once(tiny_model: Path, home: Home, job: Job,
                                                                        order: Order) -> None:
    order("nan.any.0")
    settings = msgspec.structs.replace(SETTINGS_HERE, epochs=1)
    script = Script()
    with pytest.raises(InputError, match="25% of its batches would be left out, at most 20% may be"):
        train(start(tiny_model, home), replace(job, settings=settings, guard=GuardSettings(max_skipped_share=0.2)),
              home, script)
    assert script.decided == []


def test_a_job_that_is_to_be_left_changes_nothing(tiny_model: Path, home: Home, job: Job, order: Order) -> None:
    class Leaving(Script):
        def wish(self) -> Wish:
            return Wish.STOP if self.asked else Wish.GO_ON

        def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
            self.asked = f"{effects} {reason}"
            return False

        asked = ""

    order("nan.any.3")
    outcome, _ = train(start(tiny_model, home), job, home, Leaving())
    facts = head(home).facts
    assert (outcome.ending, facts.cursor.job_step, facts.cursor.effects) == (Ending.STOPPED, 3, ())


@pytest.mark.parametrize("fault", ["nan.job-1.3", "backward.job-1.3"])
def test_a_stop_while_a_decision_is_waited_for_changes_no_bit(tiny_model: Path, home: Home, tmp_path: Path, job: Job,
                                                              order: Order, fault: str) -> None:
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)

    class Leaving(Script):
        def wish(self) -> Wish:
            return Wish.GO_ON if self.records else Wish.STOP

        def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
            self.records = False
            return super().decide(effects, reason)

    order(fault, content="once")
    outcome, _ = train(start(tiny_model, home), job, home, Leaving())
    assert (outcome.ending, head(home).facts.cursor.job_step) == (Ending.STOPPED, 3)
    _, second = train(checkpointing.restore(head(home)), job, home)
    assert second.decided == []
    assert everything(home) == everything(calm)


def test_a_stop_while_a_roll_back_is_recorded_changes_no_bit(tiny_model: Path, home: Home, tmp_path: Path, job: Job,
                                                             order: Order) -> None:
    """It is not heard whether it was recorded, and it was."""
    order("nan.job-1.5", "nan.job-1.6", "nan.job-1.7")
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)

    class Leaving(Script):
        leaves = False

        def wish(self) -> Wish:
            return Wish.STOP if self.leaves else Wish.GO_ON

        def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
            super().decide(effects, reason)
            self.leaves = len(effects) > 1
            return not self.leaves

    outcome, leaving = train(start(tiny_model, home), job, home, Leaving())
    assert steps_of(leaving) == [4, 5, 6, 7]
    assert (outcome.ending, head(home).facts.cursor.job_step) == (Ending.STOPPED, 4)
    train(checkpointing.restore(head(home)), replace(job, effects=leaving.effects), home)
    assert everything(home) == everything(calm)


def test_a_line_that_was_trained_with_other_effects_is_not_gone_on_with(tiny_model: Path, home: Home, job: Job,
                                                                        order: Order) -> None:
    order("nan.job-1.5")
    _, script = train(start(tiny_model, home), job, home, Script(at=9))
    line = checkpointing.restore(head(home))
    with pytest.raises(OtherEffectsError, match="with other effects than the journal has"):
        train(line, job, home)
    later = Effect(kind=EffectKind.SKIP_BATCH, step=12)
    train(line, replace(job, effects=(*script.effects, later)), home)
    assert head(home).facts.cursor.done


def test_of_a_job_of_which_all_was_left_out_there_is_nothing_to_keep(tiny_model: Path, home: Home, job: Job,
                                                                     order: Order) -> None:
    order("nan.job-1.0", "nan.job-1.1")

    class Keeping(Script):
        def wish(self) -> Wish:
            return Wish.KEEP if len(self.decided) == 2 else Wish.GO_ON

    outcome, script = train(start(tiny_model, home), job, home, Keeping())
    assert (outcome.ending, steps_of(script)) == (Ending.CANCELLED, [0, 1])


class Spoiling(Script):
    """A weight is no number any more after these steps of the job; so often."""

    def __init__(self, line: ModelLine, *steps: int, times: int = 1, then: Wish = Wish.GO_ON) -> None:
        super().__init__()
        self._spoils, self._steps, self._times, self._then = line, steps, times, then

    def wish(self) -> Wish:
        return Wish.GO_ON if self._times else self._then

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        super().stepped(metrics, cursor)
        if metrics.job_step in self._steps and self._times:
            self._times -= 1
            with torch.no_grad():
                next(iter(self._spoils.model.parameters()))[0, 0] = math.inf


@pytest.mark.parametrize("at", [6, 9, STEPS])
def test_weights_that_the_machine_has_spoiled_change_no_bit_whenever_that_is_met(
        tiny_model: Path, home: Home, tmp_path: Path, job: Job, at: int) -> None:
    """Written beside the steps, at the job's end, and by a loss that is no number for it."""
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)
    line = start(tiny_model, home)
    outcome, script = train(line, job, home, Spoiling(line, at))
    assert (outcome.ending, script.decided) == (Ending.FINISHED, [])
    assert [f"after each of the steps up to {at}" in reason for reason in script.taken_backs] == [True]
    assert line.facts == line.head == head(home).facts
    assert everything(home) == everything(calm)


def test_weights_that_the_machine_spoils_again_and_again_are_the_machines_fault(tiny_model: Path, home: Home,
                                                                                job: Job, order: Order) -> None:
    # Each of them once.
    order(*(f"weights.job-1.{step}" for step in (7, 5, 6, 4)), content="once")
    with pytest.raises(SpoiledMemoryError, match="taken back 3 times for it, and no step did it"):
        train(start(tiny_model, home), job, home)
    assert not head(home).facts.cursor.effects


def test_a_step_is_believed_to_spoil_the_weights_when_it_does_so_twice(tiny_model: Path, home: Home, tmp_path: Path,
                                                                       job: Job, order: Order) -> None:
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)
    order("weights.job-1.5", "weights.job-1.4", content="once")
    outcome, script = train(start(tiny_model, home), job, home)
    assert (outcome.ending, script.decided, len(script.taken_backs)) == (Ending.FINISHED, [], 2)
    assert everything(home) == everything(calm)


def test_what_is_not_trained_is_read_again_too(tiny_model: Path, home: Home, tmp_path: Path, job: Job) -> None:
    """A number in the memory that no checkpoint holds, as the weights under an adapter."""
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)
    line = start(tiny_model, home)

    class SpoilingBuffer(Script):
        def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
            super().stepped(metrics, cursor)
            if metrics.job_step == 6 and not self.taken_backs:
                next(buffer for buffer in line.model.buffers() if buffer.is_floating_point()).fill_(math.nan)

    outcome, script = train(line, job, home, SpoilingBuffer())
    assert (outcome.ending, script.decided, len(script.taken_backs)) == (Ending.FINISHED, [], 1)
    assert everything(home) == everything(calm)


def test_a_checkpoint_that_was_asked_for_comes_after_the_bad_one(tiny_model: Path, home: Home, job: Job) -> None:
    class Asking(Spoiling):
        asks = True

        def wish(self) -> Wish:
            asked, self.asks = self.asks and self._done == 6, self.asks and self._done != 6
            return Wish.CHECKPOINT if asked else Wish.GO_ON

    seldom = replace(job, settings=msgspec.structs.replace(job.settings, checkpoint_steps=1000))
    line = start(tiny_model, home)
    _, script = train(line, seldom, home, Asking(line, 6))
    assert len(script.taken_backs) == 1
    assert [publication.facts.reason for publication in script.publications] == ["asked", "job_end"]


@pytest.mark.parametrize("at", [0, 8, STEPS - 1])
def test_the_step_that_spoils_the_weights_is_found_and_left_out_wherever_the_newest_generation_is(
        tiny_model: Path, home: Home, tmp_path: Path, job: Job, order: Order, at: int) -> None:
    order(f"weights.job-1.{at}")
    line = start(tiny_model, home)
    outcome, script = train(line, job, home)
    assert (outcome.ending, len(script.taken_backs)) == (Ending.FINISHED, 2)
    (effects, reason), = script.decided
    assert effects == (Effect(kind=EffectKind.SKIP_BATCH, step=at, value=guards.SPOILS),)
    assert re.fullmatch(rf"step {at + 1} makes a weight no finite number \(\S+\); its batch is left out "
                        r"\(lines \[\d+(, \d+)*\] of the file\)", reason)
    rarely, driven = another_home(tmp_path, "rarely"), another_home(tmp_path, "driven")
    seldom = replace(job, settings=msgspec.structs.replace(job.settings, checkpoint_steps=1000))
    assert train(start(tiny_model, rarely), seldom, rarely)[1].effects == script.effects
    # Now it is the journal that leaves it out.
    train(start(tiny_model, driven), replace(job, effects=script.effects), driven)
    assert everything(driven) == everything(home)


def test_too_many_steps_that_spoil_the_weights_fail_with_their_rows(tiny_model: Path, home: Home, job: Job,
                                                                    order: Order) -> None:
    order(*(f"weights.job-1.{step}" for step in range(0, 8, 2)))
    few = replace(job, guard=msgspec.structs.replace(GUARD, max_skipped_share=0.1))
    with pytest.raises(InputError, match=r"step 3 makes .* 12% of its batches would be left out.*lines \["):
        train(start(tiny_model, home), few, home)
    _, script = train(checkpointing.restore(head(home)), job, home)
    assert sorted(effect.step for effect in script.effects) == list(range(0, 8, 2))


@pytest.mark.parametrize("kills", [False, True])
def test_a_job_that_was_cut_stays_cut_where_it_was(tiny_model: Path, home: Home, tmp_path: Path, job: Job, order: Order,
                                                   kills: bool) -> None:
    """Whoever asked for it goes on asking, also behind the place."""
    seldom = replace(job, settings=msgspec.structs.replace(job.settings, checkpoint_steps=1000))

    class Keeping(Script):
        def wish(self) -> Wish:
            return Wish.KEEP if self._done >= 6 or self.decided or self.resumed else Wish.GO_ON

        resumed = False

    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), seldom, calm, Keeping())
    if kills:
        # Between what is recorded and what is published.
        resumed = Keeping()
        resumed.resumed = True
        cut = Effect(kind=EffectKind.CUT, step=6, value=STEPS)
        train(start(tiny_model, home), replace(seldom, effects=(cut,)), home, resumed)
        assert resumed.decided == []
    else:
        order("weights.job-1.4", content="once")
        _, script = train(start(tiny_model, home), seldom, home, Keeping())
        assert [[effect.kind for effect in effects] for effects, _ in script.decided] == [[EffectKind.CUT]]
        assert script.taken_backs
    assert head(home).facts.cursor.done
    assert everything(home) == everything(calm)


def test_of_a_job_that_was_cut_only_the_step_that_spoils_the_weights_is_left_out(
        tiny_model: Path, home: Home, job: Job, order: Order) -> None:
    order("weights.job-1.5")

    class Keeping(Script):
        def wish(self) -> Wish:
            return Wish.KEEP if self._done >= 6 else Wish.GO_ON

    seldom = replace(job, settings=msgspec.structs.replace(job.settings, checkpoint_steps=1000))
    outcome, script = train(start(tiny_model, home), seldom, home, Keeping())
    assert [[effect.kind for effect in effects] for effects, _ in script.decided] == [
        [EffectKind.CUT], [EffectKind.SKIP_BATCH]]
    facts = head(home).facts
    assert (outcome.ending, facts.cursor.done, facts.step) == (Ending.FINISHED, True, 5)


@pytest.mark.parametrize(("wish", "ending"), [(Wish.STOP, Ending.STOPPED), (Wish.CANCEL, Ending.CANCELLED)])
def test_a_job_that_is_left_with_a_weight_that_is_no_number_is_just_left(
        tiny_model: Path, home: Home, tmp_path: Path, job: Job, wish: Wish, ending: Ending) -> None:
    line = start(tiny_model, home)
    outcome, script = train(line, job, home, Spoiling(line, 6, then=wish))
    assert (outcome.ending, script.decided) == (ending, [])
    assert head(home).facts.cursor.job_step == 4
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)
    train(checkpointing.restore(head(home)), job, home)
    assert everything(home) == everything(calm)


def from_the_first_step(script: Script, order: Order) -> Script:
    """Memory gets short once the job has done a step."""
    stepped = script.stepped

    def then_short(metrics: StepMetrics, cursor: Cursor) -> None:
        order("memory.job-1.1")
        stepped(metrics, cursor)

    stepfaults.arm("")
    script.stepped = then_short  # type: ignore[method-assign]  # one instance, for this test
    return script


@pytest.mark.parametrize("die", [Dying(3), Dying(before=2), Dying(after=1)],
                         ids=lambda die: f"{die._steps}-{die._before}-{die._after}")
def test_without_memory_fewer_rows_go_through_at_once_from_that_step_on(
        tiny_model: Path, home: Home, tmp_path: Path, job: Job, order: Order, die: Dying) -> None:
    job = replace(job, settings=msgspec.structs.replace(SETTINGS_HERE, batch_rows=6, micro_batch_rows=6, epochs=3))
    calm = another_home(tmp_path, "calm")
    _, script = train(start(tiny_model, calm), job, calm, from_the_first_step(Script(), order))
    assert [effects for effects, _ in script.decided] == [
        (Effect(kind=EffectKind.MICRO_BATCH, step=1, value=fewer),) for fewer in (3, 1)]
    assert sum(line["tokens"] for line in metric_lines(calm)) == 3 * sum(LENGTHS), "the batches are what they were"
    stepfaults.arm("")
    driven = another_home(tmp_path, "driven")
    train(start(tiny_model, driven), replace(job, effects=script.effects), driven)
    assert everything(driven) == everything(calm)

    with pytest.raises(Killed):
        train(start(tiny_model, home), job, home, from_the_first_step(die, order))
    again = replace(job, effects=die.effects)
    train(checkpointing.restore(head(home)), again, home, from_the_first_step(Script(), order))
    assert everything(home) == everything(calm)


def test_a_single_row_that_does_not_fit_is_the_jobs_fault(tiny_model: Path, home: Home, job: Job,
                                                          order: Order) -> None:
    order("memory.any.0")
    with pytest.raises(MemoryShortError, match="a single row does not fit"):
        train(start(tiny_model, home), job, home)


def test_without_memory_in_the_optimizer_the_line_goes_back_and_does_the_steps_again(
        tiny_model: Path, home: Home, tmp_path: Path, job: Job, order: Order) -> None:
    order("update.job-1.5", content="once")
    _, script = train(start(tiny_model, home), job, home)
    assert script.effects == (Effect(kind=EffectKind.MICRO_BATCH, step=5, value=1),)
    assert [line["job_step"] for line in metric_lines(home)] == list(range(1, STEPS + 1))
    driven = another_home(tmp_path, "driven")
    train(start(tiny_model, driven), replace(job, effects=script.effects), driven)
    assert everything(driven) == everything(home)


def test_the_next_job_begins_with_what_has_fitted(tiny_model: Path, home: Home, job: Job) -> None:
    line = start(tiny_model, home)
    _, script = train(line, replace(job, fitting_rows=1), home)
    assert script.effects == (Effect(kind=EffectKind.MICRO_BATCH, step=0, value=1),)
    _, script = train(line, replace(job, id="job-2", fitting_rows=2), home)
    assert script.effects == (), "the settings ask for no more"
    _, script = train(line, replace(job, id="job-3", fitting_rows=1, effects=(
        Effect(kind=EffectKind.MICRO_BATCH, step=0, value=1),)), home)
    assert script.effects == (), "it was recorded in the job's life before"


def test_masks_that_hide_all_stop_at_once_and_show_a_row(tiny_model: Path, home: Home, job: Job,
                                                         order: Order) -> None:
    order("zero.any.2")
    script = Script()
    with pytest.raises(MaskingError) as caught:
        train(start(tiny_model, home), job, home, script)
    assert re.search(r"the loss of step 3 .* zero: none .* of it\. Line \d+, .*: .*\[\[.*\]\]", str(caught.value))
    assert str(caught.value).isprintable()
    assert (len(script.steps), script.decided) == (2, [])


def test_what_has_been_learnt_so_well_that_it_costs_nothing_is_no_fault(tiny_model: Path, home: Home) -> None:
    path = home.cache / "known"
    with files.publish_directory(path) as folder, ShardWriter(folder, key="known", context_tokens=1024) as writer:
        writer.append([65] * 12, [True] * 12, bytes(32), 1)
        writer.seal(b"{}")
    settings = msgspec.structs.replace(SETTINGS_HERE, epochs=80, learning_rate=0.2, checkpoint_steps=0)
    outcome, script = train(start(tiny_model, home), job_over(path, settings=settings), home)
    assert outcome.ending is Ending.FINISHED
    assert script.losses[-1] == 0.0
    assert script.decided == []


def test_too_little_to_train_in_the_whole_file(tiny_model: Path, home: Home, job: Job) -> None:
    script = Script()
    with pytest.raises(MaskingError, match=r"of its 87 tokens are trained, at least 99.0000% should be.*\[\["):
        train(start(tiny_model, home), replace(job, guard=GuardSettings(min_trained_share=0.99)), home, script)
    assert script.steps == []


def test_a_loss_out_of_its_band_marks_what_is_published_or_fails(tiny_model: Path, home: Home, job: Job) -> None:
    # A band into which nothing fits, once there are four steps to compare with.
    rules = GuardSettings(window_steps=4, band_factor=1.0, band_margin=0.0, band_steps=1, spike_factor=1.0001,
                          settle_steps=2)
    job = replace(job, settings=msgspec.structs.replace(SETTINGS_HERE, learning_rate=0.5, warmup_steps=0), guard=rules)
    _, script = train(start(tiny_model, home), job, home)
    out = [metrics.job_step for metrics in script.steps if metrics.out_of_band]
    assert out, "with this learning rate it goes up and down"
    wanted = {step for bad in out for step in range(bad, bad + rules.settle_steps + 1)}
    assert {step for step, found in marks(home).items() if found == (OUT_OF_BAND,)} == wanted & marks(home).keys()
    assert [line.get("out_of_band", 0) for line in metric_lines(home)] == [
        metrics.out_of_band for metrics in script.steps]
    assert any(metrics.grad_spike for metrics in script.steps)
    failing = replace(job, id="job-2", guard=msgspec.structs.replace(rules, on_band="fail"))
    with pytest.raises(InputError, match="out of its band for 1 steps"):
        train(checkpointing.restore(head(home)), failing, home)


def test_marks_and_metrics_are_the_same_where_it_was_stopped(tiny_model: Path, home: Home, tmp_path: Path,
                                                             job: Job) -> None:
    rules = GuardSettings(window_steps=4, band_factor=1.0, band_margin=0.0, band_steps=2, spike_factor=1.5)
    job = replace(job, settings=msgspec.structs.replace(SETTINGS_HERE, learning_rate=0.5, warmup_steps=0), guard=rules)
    calm = another_home(tmp_path, "calm")
    train(start(tiny_model, calm), job, calm)
    line = start(tiny_model, home)
    for at in (5, 7, 11, 12):
        train(line, job, home, Script(at=at))
        line = checkpointing.restore(head(home))
    train(line, job, home)
    assert everything(home) == everything(calm)
    both = marks(home).keys() & marks(calm).keys()
    assert {step: marks(home)[step] for step in both} == {step: marks(calm)[step] for step in both}
    assert any(marks(calm).values())
    assert (head(home).facts.settled_at, head(home).facts.marks) == (head(calm).facts.settled_at,
                                                                     head(calm).facts.marks)


def test_a_weight_that_is_found_bad_late_is_blamed_on_the_steps_before_its_checkpoint(
        tiny_model: Path, home: Home, job: Job) -> None:
    line = start(tiny_model, home)
    train(line, job, home, Script(at=4))
    with torch.no_grad():
        next(iter(line.model.parameters()))[0, 0] = math.inf
    beside = checkpointing.Beside(line, home)
    beside.begin("interval", lambda: None)
    line.facts = msgspec.structs.replace(line.facts, cursor=msgspec.structs.replace(line.facts.cursor, job_step=7))
    with pytest.raises(WeightsNotFiniteError) as caught:
        beside.take(wait=True)
    assert caught.value.job_step == 4
