"""How files of rows are called: the inbox takes no others, and of a folder no others are submitted."""

from __future__ import annotations

DATA_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")


def is_data_name(name: str) -> bool:
    """Whether a file of this name is taken for one of rows; capital letters are the same."""
    return name.lower().endswith(DATA_SUFFIXES)
