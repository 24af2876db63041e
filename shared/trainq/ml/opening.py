"""What a job is begun with: its shard, proven, and its plan, if the line can train it."""

from __future__ import annotations

import functools
from pathlib import Path

from trainq.config import Home, TrainSettings
from trainq.errors import DamageError, InputError, OtherModelError, ShardLostError
from trainq.ml import batches, model
from trainq.ml.line import ModelLine
from trainq.shards import Shard
from trainq.textcodec import TextCodec


@functools.lru_cache(maxsize=1)
def _codec_digest(home: Home, checkpoint: str) -> str:
    return TextCodec.load(home.checkpoints / checkpoint).digest


def open_shard(path: Path) -> Shard:
    """The shard that lies there, proven; to be closed by the caller.

    Raises:
        ShardLostError: it is not there, or damaged.
    """
    try:
        return Shard.open(path, verify=True)
    except DamageError as error:
        raise ShardLostError(error.path, error.reason, mend="it is made again from the file") from error


def plan(line: ModelLine, home: Home, shard: Shard, shard_digest: str, settings: TrainSettings) -> batches.Plan:
    """Which rows the steps of a job have, once it is certain that this line can train them.

    Raises:
        ShardLostError: the job asks for another shard, ``shard_digest``.
        OtherModelError: it was prepared for another tokenizer than the line's.
        InputError: there is no row, or one that does not fit the model.
    """
    if shard.digest != shard_digest:
        raise ShardLostError(str(shard.path), f"it is the shard {shard.digest}, the job asks for {shard_digest}",
                          mend="prepare the file again")
    # The line's own tokenizer lies in its head; a shard of another one would train garbage without an error.
    if shard.facts.codec and line.head is not None and shard.facts.codec != _codec_digest(home, line.head.name):
        raise OtherModelError("the file was prepared with another tokenizer or template than this model line has",
                              mend="a home has one model line: set [model] path back, or use another home")
    if not shard.rows:
        raise InputError("there is no row to train", mend="look at the report of the preparation")
    context = model.context_tokens(line.model)
    if context is not None and shard.facts.longest_row_tokens > context:
        raise InputError(f"a row has {shard.facts.longest_row_tokens} tokens, the model takes {context}",
                         mend="prepare the file for this model")
    return batches.Plan(shard.digest, shard.lengths(), settings)
