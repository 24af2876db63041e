"""When a checkpoint inside of a job is due. Pure: times come in as monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass

from trainq.config import TrainSettings


def round_seconds(cost_seconds: float, max_share: float) -> float:
    """How long it must be from one checkpoint to the next for its cost to be that share of the time: cost / share.

    Args:
        cost_seconds: what the last one cost the training.
        max_share: above 0, and at most 1, which allows one straight after the other.
    """
    return cost_seconds / max_share if max_share < 1 else 0.0


@dataclass(slots=True)
class Pace:
    """When the last one was staged (or the job begun), and what it has cost, as far as that is known.

    ``asked``: somebody wants one, whatever it costs. ``asked_before``: so it was with the last that was begun.
    """

    settings: TrainSettings
    last_at: float
    cost_seconds: float = 0.0
    asked: bool = False
    asked_before: bool = False

    def begun(self, now: float) -> None:
        """One is staged, or written."""
        self.last_at, self.asked_before, self.asked = now, self.asked, False

    def came_to_nothing(self) -> None:
        """The last one was not fit to be published: who asked for it still waits."""
        self.asked = self.asked or self.asked_before

    def is_due(self, now: float, unpublished_steps: int) -> bool:
        """Whether the next one is due: by the clock or by steps, and never at more than its share of the time.

        But for one that was asked for.
        """
        if self.asked:
            return True
        passed = now - self.last_at
        if passed < round_seconds(self.cost_seconds, self.settings.checkpoint_max_share):
            return False
        return passed >= self.settings.checkpoint_seconds or 0 < self.settings.checkpoint_steps <= unpublished_steps
