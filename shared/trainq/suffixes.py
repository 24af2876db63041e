"""How files of rows are called: the inbox takes no others, and of a folder no others are submitted."""

from __future__ import annotations

# What tools call a file that they are still writing.
UNFINISHED_SUFFIXES = (".part", ".tmp", ".partial", ".crdownload", ".filepart", ".swp", "~")
DATA_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")


def is_data_name(name: str) -> bool:
    """Whether a file of this name is taken for one of rows; capital letters are the same."""
    return name.lower().endswith(DATA_SUFFIXES)


def is_unfinished_name(name: str) -> bool:
    """Whether a file of this name is left in the inbox: somebody is still writing it."""
    return name.lower().endswith(UNFINISHED_SUFFIXES)
