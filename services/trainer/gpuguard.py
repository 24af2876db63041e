"""The agent's look at the GPU: before it asks for a job, and every few seconds while one is trained.

What is wrong with it holds the work with the reason, uses up no attempt, and lets go by itself. The rules are
:func:`trainq.gpu.judge`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from trainq import gpu
from trainq.config import TrainerSettings

LOOK_SECONDS = 5.0
# A driver that is slow to answer is asked less often: at most so much of the time goes into waiting for it.
_MOST_SHARE = 0.02


class GpuGuard:
    """Owned by the agent's main thread, which waits for each look."""

    def __init__(self, settings: TrainerSettings, monotonic: Callable[[], float],
                 look: Callable[[], gpu.View] = lambda: gpu.look(os.environ)) -> None:
        self._limits = gpu.Limits(settings.gpu == "required", settings.foreign_mib, settings.max_celsius)
        self._monotonic, self._look = monotonic, look
        self._look_at = float("-inf")
        self._verdict = gpu.Verdict()

    def verdict(self, training: int) -> gpu.Verdict:
        """What holds now; ``training`` is the pid of the training process, 0 while there is none."""
        began = self._monotonic()
        if began >= self._look_at:
            view = self._look()
            others = gpu.foreign(view, gpu.family(os.getpid()) if view.uses else (), training, gpu.is_here)
            self._verdict = gpu.judge(view, others, self._limits, was_hot=bool(self._verdict.pause))
            ended = self._monotonic()
            self._look_at = ended + max(LOOK_SECONDS, (ended - began) / _MOST_SHARE)
        return self._verdict
