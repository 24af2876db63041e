"""The effects that a job's steps have, and how a step is done under them: the same whoever does it, and how often.

What an effect changes is a function of the job's step alone. At a step where one begins, the generators of random
numbers are seeded anew from the job's seed and the step: what was drawn in an attempt at that step which came to
nothing (a loss that was no number, memory that was not enough) leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable

from trainq.jobs import Effect, EffectKind
from trainq.ml import determinism, guards
from trainq.ml.guards import LeftOut

_SEEDS = 2**31


class Effects:
    """Those of one job that are in the journal."""

    def __init__(self, recorded: Iterable[Effect]) -> None:
        self._by_step: dict[tuple[int, EffectKind], Effect] = {}
        self.add(recorded)

    def add(self, recorded: Iterable[Effect]) -> None:
        """These are in the journal now; one of the same kind and step replaces the one before."""
        self._by_step |= {(effect.step, effect.kind): effect for effect in recorded}

    @property
    def left_out(self) -> LeftOut:
        """The steps whose batches are left out."""
        skips = [effect for effect in self._by_step.values() if effect.kind is EffectKind.SKIP_BATCH]
        return LeftOut(*(frozenset(effect.step for effect in skips if effect.value == why) for why in guards.WHY))

    def skips(self, step: int) -> bool:
        """Whether the batch of ``step`` is left out."""
        return (step, EffectKind.SKIP_BATCH) in self._by_step

    def micro_batch_rows(self, step: int, configured: int) -> int:
        """How many rows go through the model at once in ``step``."""
        changes = [effect for effect in self._by_step.values()
                   if effect.kind is EffectKind.MICRO_BATCH and effect.step <= step]
        return max(changes, key=lambda effect: effect.step).value if changes else configured

    def steps_planned(self, planned: int) -> int:
        """How many steps are all of a job that was to have ``planned``."""
        return min([planned, *(effect.step for effect in self._by_step.values() if effect.kind is EffectKind.CUT)])

    def agree_with(self, others: Iterable[Effect], steps: int) -> bool:
        """Whether the job's first ``steps`` steps are the same with those."""
        return set(self.until(steps - 1)) == {effect for effect in others if effect.step < steps}

    def until(self, step: int) -> tuple[Effect, ...]:
        """Those that hold by the time that ``step`` is done, in order."""
        return tuple(effect for key, effect in sorted(self._by_step.items()) if key[0] <= step)

    def seed_where_one_begins(self, step: int, seed: int) -> None:
        """Make what ``step`` draws independent of how often it was tried, if an effect begins with it."""
        if self.skips(step) or (step, EffectKind.MICRO_BATCH) in self._by_step:
            determinism.seed((seed + step) % _SEEDS)
