"""Scorers: what an answer to a row is worth, between 0 and 1; and the proof that a scorer can be believed.

A scorer that nobody has seen give right answers their due measures nothing: one that cut every answer once gave 0 for
days to a model that was right in 60 of 100 rows. So none is used before it has proven itself on the very rows that it
is to score (:func:`prove`): everything for the references, and no more than luck for the references of other rows.

Everything here is a pure function of rows and answers, but for :mod:`trainq.scoring.command`, which asks a program.
"""

from __future__ import annotations

from trainq.scoring.base import Case, Score, Scorer
from trainq.scoring.proving import Proof, prove
from trainq.scoring.registry import OF_GENERATORS, make, names
from trainq.scoring.training_rows import check_row, check_sample

__all__ = ["OF_GENERATORS", "Case", "Proof", "Score", "Scorer", "check_row", "check_sample", "make",
           "names", "prove"]
