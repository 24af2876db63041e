"""Every bad content gets what the table says, judged by the real code; the document is the table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hostile_inputs
from hostile_inputs import ALL_BAD, CONTENTS, HALF_BAD, MEANWHILE, Content, Meanwhile
from trainq import builtin, config, files, ingest
from trainq.config import DataSettings, Home
from trainq.errors import InputError
from trainq.preparing import PrepareProgress, examine
from trainq.textcodec import TextCodec

CODEC = TextCodec.load(builtin.folder())
_SLOW_TO_MAKE = ("a line of 100 MB", "a bomb: 1 GB of one line in 100 kB")


def ignore(_: PrepareProgress) -> None:
    pass


@pytest.mark.parametrize("content", [pytest.param(content, id=content.what) for content in CONTENTS
                                     if content.becomes != "refused" and content.what not in _SLOW_TO_MAKE])
def test_a_content_gets_what_the_table_says(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content.make())
    examined = examine(path, CODEC, DataSettings(), builtin.CONTEXT_TOKENS, ignore)
    said = examined.reason
    if examined.report.bad_rows:
        row = examined.report.bad_rows[0]
        said = f"{row.line}:{row.column} {row.field + ': ' if row.field else ''}{row.reason} ({row.mend})"
        assert row.mend
    assert ("rejected" if examined.reason else "trained", said) == (content.becomes, content.says)
    if examined.report.rejected == 1 and examined.report.read <= 2:
        assert examined.reason == (HALF_BAD if examined.report.read == 2 else ALL_BAD)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.what) for entry in MEANWHILE])
def test_a_file_that_changes_while_it_is_read(entry: Meanwhile, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for folder in home.folders():
        files.make_directory(folder)
    path = tmp_path / "f.jsonl"
    old = hostile_inputs.good("x" * 100) * 20_000
    path.write_bytes(old)
    chunks = 0

    def happen_at_the_second() -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 2:
            entry.happen(path)

    if entry.becomes == "refused":
        with pytest.raises(ingest.FileChangedError) as caught:
            ingest.store_file(home, path, on_chunk=happen_at_the_second)
        assert f"{caught.value.reason} ({caught.value.mend})" == entry.says
        assert [found for found in home.data.rglob("*") if found.is_file()] == []
    else:
        stored = ingest.store_file(home, path, on_chunk=happen_at_the_second)
        assert ingest.data_path(home, stored.digest).read_bytes() == old
    assert chunks >= 2


@pytest.mark.parametrize(("makes", "says"), [(True, hostile_inputs.UNREADABLE), (False, hostile_inputs.VANISHED)])
def test_a_file_that_cannot_be_opened(tmp_path: Path, makes: bool, says: str) -> None:
    path = tmp_path / "f.jsonl"
    if makes:
        path.write_bytes(hostile_inputs.good("secret"))
        path.chmod(0)
    user = os.geteuid()
    with pytest.raises(InputError) as caught:
        try:
            if makes and user == 0:
                os.seteuid(65534)  # root may read everything
            ingest.store_file(Home(tmp_path / "home"), path)
        finally:
            os.seteuid(user)
    assert f"{caught.value.reason} ({caught.value.mend})" == says


def test_an_empty_file_is_refused_as_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "e").touch()
    with pytest.raises(InputError) as caught:
        ingest.store_file(Home(tmp_path / "home"), tmp_path / "e")
    assert f"{caught.value.reason} ({caught.value.mend})" == hostile_inputs.EMPTY


def test_the_document_is_the_table() -> None:
    assert (config.project_root() / "docs" / "bad-inputs.md").read_text() == hostile_inputs.document()
