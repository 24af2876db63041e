"""What one job wants otherwise than the configuration says: read, checked, and applied. Pure."""

from __future__ import annotations

import tomllib
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET

from trainq.config.settings import TrainOverrides, TrainSettings
from trainq.errors import UsageError

Named = TypeVar("Named")

OVERRIDABLE = TrainOverrides.__struct_fields__
_MOST_QUOTED = 200


def overridden(train: TrainSettings, wished: TrainOverrides) -> TrainSettings:
    """``train`` with what is wished in place of it.

    Who wishes only ``batch_rows`` means the micro-batch to fit into it.

    Raises:
        UsageError: the micro-batch wished is larger than the batch.
    """
    wishes = {name: value for name in OVERRIDABLE if (value := getattr(wished, name)) is not UNSET
              and value is not None}
    if not wishes:
        return train
    changed = msgspec.structs.replace(train, **wishes)
    if changed.micro_batch_rows <= changed.batch_rows:
        return changed
    if "micro_batch_rows" in wishes:
        raise UsageError(f"micro_batch_rows {changed.micro_batch_rows} is more than batch_rows {changed.batch_rows}",
                         mend="a micro-batch is a part of a batch: make it at most batch_rows")
    return msgspec.structs.replace(changed, micro_batch_rows=changed.batch_rows)


def parse_value(text: str) -> Any:
    """What ``trainq.toml`` would hold after the equals sign; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def parse_override(name: str, text: str) -> Any:
    """The value of one setting that a job wants otherwise.

    Raises:
        UsageError: there is no such setting, it is not a job's to change, or it does not take this value.
    """
    hints = get_type_hints(TrainOverrides, include_extras=True)
    if name not in hints:
        if name in TrainSettings.__struct_fields__:
            raise UsageError(f"{name} is no setting of a job", mend="it is the machine's: set it in [train]")
        import difflib  # for mistakes only

        close = difflib.get_close_matches(name, hints, n=1)
        raise UsageError(f"there is no setting {name!r} of a job",
                         mend=f"did you mean {close[0]}?" if close else f"known are: {', '.join(hints)}")
    value = parse_value(text)
    try:
        return msgspec.convert(value, hints[name], strict=True)
    except msgspec.ValidationError as error:
        default = getattr(TrainSettings(), name)
        raise UsageError(f"{name}: {text[:_MOST_QUOTED]!r}: {error}",
                         mend=f"write it as in trainq.toml; the default is {default!r}") from None


def nearest(folders: dict[str, Named], folder: str) -> Named | None:
    """What is said of the nearest folder of which anything is: for ``a/b/c`` of a/b/c, else of a/b, else of a."""
    while folder:
        if folder in folders:
            return folders[folder]
        folder = folder.rpartition("/")[0]
    return None
