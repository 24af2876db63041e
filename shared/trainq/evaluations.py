"""Results of evaluations: sealed folders that are also the cache, so that nothing is scored twice.

``evaluations/<key>/`` is a sealed directory (:mod:`trainq.manifests`, kind ``evaluation``) with ``rows.jsonl``, a line
for each row of the suite, and the facts. The key is a digest over what decides every score: the weights and what is
read with them, the suite, the scorer's version, and how it was computed (:class:`Method`). So a result is of a model
and not of a name: a generation that was restored has the scores of the one that it equals.

A result that does not verify is no result: it is removed, and made again. One of a checkpoint that is gone goes, too
(:func:`remove_of_gone`). Only the evaluating child writes here (``trainq.ml.evaluating``). Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import orjson

from trainq import checkpoints, files, manifests
from trainq.config import Home
from trainq.errors import DamageError, NewerFormatError
from trainq.promoting import Comparison, Score
from trainq.scoring import Proof
from trainq.suites import Kind, Suite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "evaluation"
FORMAT = 1
ROWS_NAME = "rows.jsonl"
# What all answers of a result may take on disk. The rows that make them take as much, and are read for every score.
MOST_ANSWER_BYTES = 8 * 1024 * 1024
_KEY = re.compile(r"[0-9a-f]{64}")
# Of a generation's files those that decide no answer: the optimizer, the generators, where the line stands, its card.
# Every other file counts, so that one that is not known here makes at most a score anew.
_DECIDE_NOTHING = frozenset({"optimizer.safetensors", "rng.safetensors", "state.json", "ledger.bin", "README.md"})


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How scores were computed: other batches, another device and other libraries change the last bits, and now and
    then an answer. So what one way has found is not compared with what another has.

    ``rules`` is the version of the code that evaluates, ``libraries`` are those that compute and encode.
    """

    rules: int
    batch_rows: int
    device: Literal["cpu", "cuda"]
    libraries: dict[str, str] = {}


class RowResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of row number ``row`` (from 0) of the suite.

    A row that was scored has a ``score`` (kind ``generate``; ``credit`` beside it where the scorer knows of that) or a
    ``loss`` (nats a token, the mean over its ``tokens`` trained tokens). ``left_out`` says why another was not: such a
    row counts for nothing.

    ``answer`` is what the model has said, without special tokens, in ``tokens`` new tokens; ``truncated`` if it was
    still speaking when it had said as many as it may. ``cut`` if only the beginning of the answer was kept here: it was
    scored whole.
    """

    row: int
    score: float | None = None
    credit: float | None = None
    loss: float | None = None
    tokens: int = 0
    answer: str | None = None
    truncated: bool = False
    cut: bool = False
    left_out: str = ""


class EvaluationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest's facts: one score, with all that is needed to judge it.

    ``mean`` is that of the ``n`` rows that were scored (a share of right answers, or nats a token), ``low`` and
    ``high`` the ends of its interval at ``confidence``; ``left_out`` rows were too long for the model. ``credit`` is
    the mean credit. ``tokens`` are trained tokens (kind ``loss``) or new ones; ``truncated`` counts answers that were
    ended because they were as long as an answer may be, ``answers_cut`` those that were not kept whole. ``proof`` is
    what the scorer had shown before. ``shapes`` is a digest of the shapes of what went through the model.
    ``checkpoint`` is the generation that was asked about; any other with the same weights has the same score. So is
    ``suite`` the one that was asked about, and any other with the same content has it, too.
    """

    key: str
    suite: str
    suite_digest: str
    kind: Kind
    checkpoint: str
    weights_digest: str
    method: Method
    n: int
    mean: float
    low: float
    high: float
    confidence: float
    seed: int
    left_out: int
    tokens: int
    seconds: float
    created_at: float
    created_by: str
    scorer: str = ""
    scorer_version: str = ""
    max_new_tokens: int = 0
    credit: float | None = None
    truncated: int = 0
    answers_cut: int = 0
    proof: Proof | None = None
    shapes: str = ""
    versions: dict[str, str] = {}
    fingerprint: dict[str, str] = {}
    format: int = FORMAT


class SuiteScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score on one suite, and what is to be decided with: ``comparison`` is with the other checkpoint, if any.

    ``was_known`` if nothing had to be computed for the score. ``limit`` is the suite's own.
    """

    facts: EvaluationFacts
    score: Score
    was_known: bool
    limit: float | None = None
    comparison: Comparison | None = None


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the evaluating child answers: the scores of one checkpoint, in the order of the suites that were named.

    ``refused`` says of each suite that was not scored what is wrong with it, and what mends it.
    """

    checkpoint: str
    weights_digest: str
    scores: list[SuiteScore]
    refused: dict[str, str] = {}
    against: str = ""
    against_digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A result whose every byte was proven."""

    facts: EvaluationFacts
    rows: list[RowResult]

    def values(self) -> NDArray[np.float64]:
        """The scores, or the losses, of the rows that were scored, in their order; shape (n,)."""
        import numpy as np  # whoever lists results needs no arrays

        found = [row.score if row.loss is None else row.loss for row in self.rows if not row.left_out]
        return np.array(found, dtype=np.float64)


def weights_digest(path: Path) -> str:
    """A digest over what decides the answers of the checkpoint at ``path``, from the manifests alone.

    Two generations have the same one if model, adapter, tokenizer and template are the same, whatever else they hold.

    Raises:
        DamageError: it, or the one that holds the weights under its adapter, is not there or has no valid manifest.
        NewerFormatError: a newer trainq wrote it.
    """
    facts = checkpoints.read_facts(path)
    records = _deciding(path)
    if not facts.has_weights:
        under = _deciding(path.with_name(facts.adapter_of))
        records |= {f"under/{name}": digest for name, digest in under.items()
                    if not name.startswith(f"{checkpoints.ADAPTER_FOLDER}/")}
    return manifests.digest_bytes(orjson.dumps(records, option=orjson.OPT_SORT_KEYS))


def _deciding(path: Path) -> dict[str, str]:
    return {name: record.blake3 for name, record in manifests.read(path, checkpoints.KIND).files.items()
            if name not in _DECIDE_NOTHING}


def key_of(weights: str, suite: Suite, scorer_version: str, method: Method) -> str:
    """The name of the result of a suite on weights with that digest."""
    parts = {"evaluation": FORMAT, "weights": weights, "suite": suite.digest, "scorer_version": scorer_version,
             "method": msgspec.to_builtins(method)}
    return manifests.digest_bytes(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))


def read(home: Home, key: str) -> Evaluation:
    """Prove every byte of a result and read it.

    Raises:
        DamageError: it is not there, or not whole.
        NewerFormatError: a newer trainq wrote it.
        StorageError: it could not be read, which proves nothing.
    """
    path = home.evaluations / key
    facts = manifests.facts_of(path, manifests.verify(path, KIND), EvaluationFacts, FORMAT)
    if facts.key != key:
        raise DamageError(str(path), f"it is {facts.key} under another name")
    try:
        rows = msgspec.json.Decoder(RowResult).decode_lines((path / ROWS_NAME).read_bytes())
    except OSError as error:
        raise files.storage_error(error, f"reading {path}") from error
    except msgspec.MsgspecError as error:
        raise DamageError(str(path / ROWS_NAME), f"no rows: {error}") from error
    return Evaluation(facts=facts, rows=rows)


def find(home: Home, key: str) -> Evaluation | None:
    """The result of that name if there is one; a damaged one is removed, and is to be made again.

    Raises:
        NewerFormatError, StorageError: as :func:`read`.
    """
    path = home.evaluations / key
    if not path.exists():
        return None
    # Whoever published it may have ended before its name was durable.
    files.sync_directory(path.parent)
    try:
        return read(home, key)
    except DamageError:
        files.remove_tree(path)
        return None


def publish(home: Home, facts: EvaluationFacts, rows: Sequence[RowResult]) -> Evaluation:
    """Publish a result; the answers are kept within :data:`MOST_ANSWER_BYTES`, and what was cut is counted.

    Raises:
        StorageError, StorageFullError: the disk; nothing is there.
    """
    kept = bounded(rows)
    facts = msgspec.structs.replace(facts, answers_cut=sum(row.cut for row in kept))
    files.make_directory(home.evaluations)
    with files.publish_directory(home.evaluations / facts.key) as folder:
        files.write_file(folder / ROWS_NAME, msgspec.json.Encoder().encode_lines(kept))
        manifests.seal(folder, KIND, msgspec.to_builtins(facts))
    return Evaluation(facts=facts, rows=kept)


def bounded(rows: Sequence[RowResult], most_bytes: int = MOST_ANSWER_BYTES) -> list[RowResult]:
    """The rows with all answers whole, if they take ``most_bytes`` at most; else each of them cut to its share."""
    sizes = [len(row.answer.encode()) if row.answer else 0 for row in rows]
    if sum(sizes) <= most_bytes:
        return list(rows)
    share = most_bytes // len(rows)
    return [row if size <= share or row.answer is None else
            msgspec.structs.replace(row, answer=row.answer.encode()[:share].decode("utf-8", "ignore"), cut=True)
            for row, size in zip(rows, sizes, strict=True)]


def facts_of(home: Home) -> list[EvaluationFacts]:
    """The facts of all results, the oldest first, from their manifests alone; what is damaged is passed over."""
    folder = home.evaluations
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if _KEY.fullmatch(path.name):
            try:
                found.append(manifests.facts_of(path, manifests.read(path, KIND), EvaluationFacts, FORMAT))
            except (DamageError, NewerFormatError):
                continue
    return sorted(found, key=lambda facts: (facts.created_at, facts.key))


def remove_of_gone(home: Home) -> list[str]:
    """Remove the results of checkpoints that are not there any more, and what can be read by nobody; the names.

    Raises:
        StorageError: the disk.
    """
    there = {path.name for path in checkpoints.list_generations(home.checkpoints)}
    if not there:
        return []  # a disk that is not mounted proves nothing
    known = {facts.key: facts.checkpoint for facts in facts_of(home)}
    gone = [path for path in sorted(home.evaluations.iterdir())
            if _KEY.fullmatch(path.name) and known.get(path.name) not in there]
    for path in gone:
        files.remove_tree(path)
    return [path.name for path in gone]


def score_of(found: Evaluation) -> Score:
    """A result as what decisions are made with."""
    facts = found.facts
    return Score(evaluation_key=facts.key, suite_digest=facts.suite_digest, rows_digest=rows_digest(found), n=facts.n,
                 mean=facts.mean, low=facts.low, high=facts.high, confidence=facts.confidence)


def rows_digest(found: Evaluation) -> str:
    """Which rows were scored: two results with the same one, of one suite, can be compared row by row."""
    return manifests.digest_bytes(orjson.dumps([row.row for row in found.rows if not row.left_out]))
