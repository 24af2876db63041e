"""A peer of ``bench.preparing`` in an environment of its own: ``python -m bench.peer_datasets MODEL FILE FOLDER``.

``load_dataset("json")`` and one ``map`` of batches with the same template and the same tokenizer, in one process; no
masks, no duplicates, no report. Prints the seconds from a file to tokens on disk, and those within the template and the
tokenizer; imports are not counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
from tokenizers import Tokenizer

from bench.plain_template import renderer


class Encoding:
    """Encodes batches, and counts the seconds that it takes."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._render: Callable[[Any], str] = renderer(folder)
        self.seconds = 0.0

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[list[int]]]:
        started = time.perf_counter()
        texts = batch["text"] if "text" in batch else [self._render(turns) for turns in batch["messages"]]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        self.seconds += time.perf_counter() - started
        return {"input_ids": ids}


def main(model: Path, source: str, folder: str) -> None:
    datasets.disable_progress_bars()
    encoding = Encoding(model)
    started = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=source, split="train", cache_dir=folder)
    made = rows.map(encoding, batched=True, remove_columns=rows.column_names, new_fingerprint="made")
    print(time.perf_counter() - started, encoding.seconds, len(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
