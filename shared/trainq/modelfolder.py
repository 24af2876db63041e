"""A model's folder, as far as rows need it: where the tokenizer lies, and how long a row may be."""

from __future__ import annotations

from pathlib import Path

import orjson

from trainq import builtin, files
from trainq.errors import InputError


def model_folder(path: str) -> Path:
    """Where the tokenizer and the template of the model lie; an empty path means the built-in one."""
    return Path(path) if path else builtin.folder()


def context_tokens(folder: Path) -> int:
    """The longest row that the model takes, from its configuration.

    Raises:
        InputError: the folder has no readable ``config.json`` that says it.
        StorageError: the machine did not let it be read.
    """
    if folder == builtin.folder():
        return builtin.CONTEXT_TOKENS
    path = folder / "config.json"
    try:
        found = orjson.loads(path.read_bytes())["max_position_embeddings"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and files.is_machine_fault(error):
            raise files.storage_error(error, f"reading {path}") from error
        raise InputError(f"the model's context is not known: {error!r}", file=str(path),
                         field="max_position_embeddings", mend="check [model] path") from error
    if type(found) is not int or found < 1:  # JSON's true is an int in Python
        raise InputError(f"the model's context is not known: {found!r} is no number of tokens", file=str(path),
                         field="max_position_embeddings", mend="check [model] path")
    return found
