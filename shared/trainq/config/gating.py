"""[gate]: from which shares on the quality gate calls a file good, degraded or poor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from trainq.config.section import Section

_Share = Annotated[float, Meta(ge=0, le=1)]
# A file is good above the first, degraded above the second, poor above the third; excellent where it is above none.
Limits = tuple[_Share, _Share, _Share]


class GateSettings(Section, frozen=True, kw_only=True):
    """[gate]: what the preparer makes of a file's quality. Frozen into each job when it is submitted.

    Each measure is a share with three limits: above the first the file is no longer excellent, above the second no
    longer good, above the third it is poor; the worst measure is the file's band. ``rejected``, ``duplicate``,
    ``overlap`` and ``damaged`` are shares of the rows read, ``long`` that of the rows that are dropped or cut for their
    length, ``wrong`` that of the rows with a checkable answer whose answer is wrong. ``untrained`` is the share
    of the trained rows' tokens that are in no answer.

    With ``on_poor = "hold"`` a poor file waits for a person, with ``"train"`` it is only reported. With ``"off"``
    nothing is measured, no suite is guarded, and nothing of the file is kept beside its shard for replay or for the
    held-out loss.
    """

    on_poor: Literal["hold", "train", "off"] = "hold"
    rejected: Limits = (0.0, 0.01, 0.05)
    duplicate: Limits = (0.01, 0.1, 0.5)
    long: Limits = (0.01, 0.1, 0.5)
    untrained: Limits = (0.95, 0.99, 0.999)
    overlap: Limits = (0.0, 0.001, 0.01)
    damaged: Limits = (0.001, 0.01, 0.1)
    wrong: Limits = (0.0, 0.01, 0.05)

    @classmethod
    def none(cls) -> GateSettings:
        """Those of a job that was submitted before there was a gate: its shard is what it was then."""
        return cls(on_poor="off")

    @property
    def measures(self) -> bool:
        """Whether files are measured at all."""
        return self.on_poor != "off"

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """(setting, problem, mend) for each measure whose limits do not rise."""
        for name in MEASURES:
            limits: Limits = getattr(self, name)
            if list(limits) != sorted(limits):
                yield name, f"the limits {list(limits)} do not rise", "give the one for good first, that for poor last"


MEASURES = ("rejected", "duplicate", "long", "untrained", "overlap", "damaged", "wrong")
