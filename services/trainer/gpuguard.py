"""The agent's look at the GPU: before it asks for a job or starts a process, and every few seconds.

What is wrong with it holds the work with the reason, uses up no attempt, and lets go by itself. The rules are
:func:`trainq.gpu.judge`'s. The driver is asked in a thread of its own: one that hangs holds the work, too, and stops no
heartbeat.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from trainq import gpu, liveness
from trainq.config import TrainerSettings

LOOK_SECONDS = 5.0
# A driver that is slow to answer is asked less often: at most so much of the time goes into waiting for it.
_MOST_SHARE = 0.02
# So long the main thread waits for an answer, which mostly comes in milliseconds.
WAIT_SECONDS = 1.0
# A driver that is not kept loaded takes a second or a few; one that takes so long hangs.
HANG_SECONDS = 30.0


class GpuGuard:
    """Owned by the agent's main thread."""

    def __init__(self, settings: TrainerSettings, monotonic: Callable[[], float],
                 look: Callable[[], gpu.View] = lambda: gpu.look(os.environ), *,
                 wait_seconds: float = WAIT_SECONDS) -> None:
        self._limits = gpu.Limits(settings.gpu == "required", settings.foreign_mib, settings.max_celsius)
        self._monotonic, self._look, self._wait_seconds = monotonic, look, wait_seconds
        self._look_at = float("-inf")
        self._answer: Future[gpu.View] | None = None
        self._asked_at = 0.0
        self._verdict = gpu.Verdict(hold="the GPU's driver has not answered yet; it goes on by itself when it does")
        # There is one, with nothing wrong; and a process that passed it over was told of since that is so.
        self._is_fine = self._was_told = False

    def verdict(self, training: int) -> gpu.Verdict:
        """What holds now; ``training`` is the pid of the training process, 0 while there is none."""
        if self._answer is None and self._monotonic() >= self._look_at:
            self._asked_at, self._answer = self._monotonic(), Future()
            threading.Thread(target=_ask, args=(self._look, self._answer), name="gpu-look", daemon=True).start()
            wait([self._answer], self._wait_seconds)
        if self._answer is not None:
            self._hear(self._answer, training)
        return self._verdict

    def is_passed_over(self, device: str) -> bool:
        """Whether a process that computes on ``device`` was begun while the GPU was away, which is there and fine now.

        Said once for each time that it was away: where torch has no use for it, the next one is on the processor, too.
        """
        if device != "cpu" or not self._is_fine or self._was_told:
            return False
        self._was_told = True
        return True

    def _hear(self, answer: Future[gpu.View], training: int) -> None:
        now = self._monotonic()
        if answer.done():
            self._answer = None
            self._look_at = now + max(LOOK_SECONDS, min(now - self._asked_at, WAIT_SECONDS) / _MOST_SHARE)
            self._judge(answer.result(), training)
        elif now - self._asked_at >= HANG_SECONDS:
            # What runs would hang by itself if it could not go on; heat that was there is still there.
            late = gpu.View(trouble=f"its driver has not answered for {HANG_SECONDS:.0f} s")
            self._is_fine = self._was_told = False
            self._verdict = gpu.judge(late, [], self._limits, was_hot=False)._replace(pause=self._verdict.pause)

    def _judge(self, view: gpu.View, training: int) -> None:
        others = gpu.foreign(view, liveness.family(os.getpid()) if view.uses else (), training, gpu.is_here)
        self._verdict = gpu.judge(view, others, self._limits, was_hot=bool(self._verdict.pause))
        self._is_fine = view.found and not self._verdict.hold
        self._was_told &= view.found and not view.trouble


def _ask(look: Callable[[], gpu.View], answer: Future[gpu.View]) -> None:
    """No torch here (:mod:`trainq.ml.determinism`)."""
    try:
        answer.set_result(look())
    except BaseException as error:
        answer.set_exception(error)
