"""``python -m trainq.ml.rowtracing``: what became of one row of a job's file, and which steps it entered.

Reads one question as JSON from stdin and answers with one JSON object on stdout. The verdict over the row is reached by
the preparer's own code; the steps are those of the job's plan, and those that the ledgers of checkpoints have. Where
the job's shard is gone it is made again, below a temporary folder, and must come out the same. Nothing of a home is
written. Exit codes are those of :mod:`trainq.errors`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trainq import enclosures, preparing
from trainq.config import DataSettings, GateSettings, Home, TrainSettings
from trainq.errors import DamageError, InputError, TrainqError
from trainq.jobs import Effect, Enclosed
from trainq.ml import batches, ledger
from trainq.ml.effects import Effects
from trainq.modelfolder import context_tokens, model_folder
from trainq.preparing import Prepared, RowFate
from trainq.shards import Shard
from trainq.textcodec import TextCodec


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which row: ``line`` (from 1) of the file ``source``, whose job was frozen with these settings.

    ``shard`` is where its shard lies, or lay; ``ledgers`` are those of checkpoints in which the job was the last one.
    ``effects`` are those under which its steps were done. ``home`` has what is ``enclosed`` in its shard.
    """

    source: str
    line: int
    model: str
    data: DataSettings
    train: TrainSettings
    shard: str
    shard_digest: str
    ledgers: dict[str, str] = {}
    effects: list[Effect] = []
    home: str = ""
    gate: GateSettings = GateSettings.none()
    enclosed: tuple[Enclosed, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """``fate`` as in :class:`trainq.preparing.RowFate`; of a duplicate ``line`` is the one that came first.

    ``steps`` are the job's steps, counted from 1, that are to train the row, each with its epoch (from 1); ``entered``
    those that it entered by each ledger. Both are empty where the row is not trained, or no shard was ever made.
    """

    fate: str
    line: int
    is_duplicate: bool = False
    reason: str = ""
    mend: str = ""
    steps: list[tuple[int, int]] = []
    entered: dict[str, list[int]] = {}


class _Found(Exception):  # noqa: N818 - it ends a reading, and is no error
    def __init__(self, fate: RowFate) -> None:
        self.fate = fate
        super().__init__(fate)


def answer(question: Question) -> Answer:
    """What there is to say of the row.

    Raises:
        InputError: the file has no such line, or the line holds no row.
        DamageError: the shard comes out otherwise than the journal says.
        StorageError: something could not be read.
    """
    folder = model_folder(question.model)
    inputs = enclosures.inputs_of(Home(Path(question.home)), question.gate, question.enclosed)
    codec, context = TextCodec.load(folder), context_tokens(folder)

    def find(line: int | None, digest: bytes | None) -> RowFate:
        def tell(fate: RowFate) -> None:
            if fate.line == line or (digest is not None and fate.digest == digest):
                raise _Found(fate)

        try:
            preparing.trace(Path(question.source), codec, question.data, context, tell, inputs)
        except _Found as found:
            return found.fate
        raise InputError(f"there is no row in line {line}", file=question.source,
                         mend="lines are counted from 1, and empty ones are no rows")

    fate = find(question.line, None)
    is_duplicate = fate.fate == "duplicate"
    if is_duplicate:
        fate = find(None, fate.digest)
    said = Answer(fate=fate.fate, line=fate.line, is_duplicate=is_duplicate, reason=fate.reason, mend=fate.mend)
    if fate.fate != "trained" or not question.shard_digest:
        return said
    if Path(question.shard).is_dir():
        return _with_steps(said, question, Path(question.shard))
    with tempfile.TemporaryDirectory() as made:
        outcome = preparing.prepare(Path(question.source), codec, question.data, context, Path(made) / "cache",
                                    Path(made) / "rejected", "row", lambda _: None, inputs)
        if not isinstance(outcome, Prepared):
            raise DamageError(question.source, f"it was trained, and is refused now: {outcome.reason}")
        return _with_steps(said, question, Path(made) / "cache" / outcome.shard)


def _with_steps(said: Answer, question: Question, path: Path) -> Answer:
    with Shard.open(path, verify=False) as shard:
        if shard.digest != question.shard_digest:
            raise DamageError(str(path), f"it is the shard {shard.digest}, the journal says {question.shard_digest}")
        index = _row_at(shard, said.line)
        plan = batches.Plan(shard.digest, shard.lengths(), question.train)
        digest = ledger.row_digest(shard.row(index))
    effects = Effects(question.effects)
    of_plan = [step for step in range(plan.steps) if index in plan.rows_of_step(step)]
    steps = [step for step in of_plan if step < effects.steps_planned(plan.steps) and not effects.skips(step)]
    # Two rows may have become the same tokens: only where this one was to come in. Not by the effects, which are those
    # of now: a copy may be of an attempt that had others, and its ledger has what came in there.
    entered = {name: [step + 1 for step in ledger.steps_of(Path(where).read_bytes(), digest) if step in of_plan]
               for name, where in question.ledgers.items()}
    return msgspec.structs.replace(said, entered=entered,
                                   steps=[(step + 1, plan.epoch_of_step(step) + 1) for step in steps])


def _row_at(shard: Shard, line: int) -> int:
    """The row that stood at ``line``; rows are in the order of their lines.

    Raises:
        DamageError: there is none.
    """
    low, high = 0, shard.rows
    while low < high:
        middle = (low + high) // 2
        if shard.row(middle).line < line:
            low = middle + 1
        else:
            high = middle
    if low == shard.rows or shard.row(low).line != line:
        raise DamageError(str(shard.path), f"it has no row of line {line}, which is a good one")
    return low


def main(_arguments: Sequence[str] | None = None) -> int:
    """Entry point; gives the exit code."""
    try:
        said: object = answer(msgspec.json.decode(sys.stdin.buffer.read(), type=Question))
        code = 0
    except TrainqError as error:
        said, code = {"error": str(error)}, error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
