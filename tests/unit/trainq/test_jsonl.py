"""Lines come out whole, in order and in bounded memory, whatever the compression; damage is named."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainq import jsonl
from trainq.errors import InputError, StorageError
from trainq.jsonl import KEPT_BYTES, MAX_LINE_BYTES, Line, read_lines

SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"meta"


def ignore(_: int) -> None:
    pass


def plain(content: bytes) -> bytes:
    return content


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def in_members(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """As `cat a.gz b.gz` makes it: cut in the middle of lines, and of characters."""
    return lambda content: b"".join(compress(content[at:at + 7]) for at in range(0, len(content), 7))


def with_skippable(content: bytes) -> bytes:
    return SKIPPABLE_FRAME + zstd(content[:9]) + SKIPPABLE_FRAME + zstd(content[9:]) + SKIPPABLE_FRAME


COMPRESSIONS = [plain, gzip.compress, zstd, in_members(gzip.compress), in_members(zstd), with_skippable]


def lines(tmp_path: Path, content: bytes) -> list[Line]:
    # Named like a digest: what it is must be told by its content.
    path = tmp_path / ("0" * 64)
    path.write_bytes(content)
    return list(read_lines(path, ignore))


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_lines_are_numbered_and_blank_ones_are_nothing(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = b"\xef\xbb\xbf{1}\r\n\r\n  \n{2}\n\t\n{\xc3\xa9}"
    assert lines(tmp_path, compress(content)) == [Line(1, b"{1}", 6), Line(4, b"{2}", 3), Line(6, b"{\xc3\xa9}", 4)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), min_size=1, max_size=20),
       st.integers(1, 9), st.sampled_from(COMPRESSIONS))
def test_any_bytes_in_any_blocks_give_the_lines_between_the_newlines(
        tmp_path_factory: pytest.TempPathFactory, given_lines: list[bytes], block_bytes: int,
        compress: Callable[[bytes], bytes]) -> None:
    content = b"{}\n" + b"\n".join(given_lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK_BYTES", block_bytes)
        patch.setattr(jsonl, "_ZSTD_PIECE_BYTES", block_bytes)
        found = lines(tmp_path_factory.mktemp("lines"), compress(content))
    expected = [(number, line.removesuffix(b"\r"))
                for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert [(line.number, line.content) for line in found] == expected


@pytest.mark.parametrize("content", [b"", b"\n\n \r\n", b"\xef\xbb\xbf",
                                     gzip.compress(b"", mtime=0), gzip.compress(b"\n", mtime=0),
                                     zstd(b""), SKIPPABLE_FRAME])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="no rows") as caught:
        lines(tmp_path, content)
    assert caught.value.file.endswith("0" * 64)
    assert caught.value.mend


CONTENT = b"".join(b'{"text": "row %d"}\n' % number for number in range(5000))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1:]


@pytest.mark.parametrize("compress", [gzip.compress, lambda content: zstandard.ZstdCompressor(
    write_checksum=True).compress(content)], ids=["gz", "zst"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-200], flipped,
                                    lambda content: content + b"trailing rubbish", lambda content: content[:5]],
                         ids=["one byte short", "cut", "flipped", "rubbish behind", "only a header"])
def test_damaged_compression_is_one_error_that_names_the_file(
        tmp_path: Path, compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InputError, match="damaged or cut short") as caught:
        lines(tmp_path, damage(compress(CONTENT)))
    assert caught.value.file.endswith("0" * 64)


def test_rows_before_the_damage_come_out(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(b"{}\n" * 100_000)[:-8])
    found = read_lines(path, ignore)
    assert next(found).number == 1
    with pytest.raises(InputError):
        list(found)


def cut_in_the_last_block(content: bytes) -> bytes:
    """Several zstd blocks; the last one is cut."""
    return b"".join(zstd(content[at:at + 3000]) for at in range(0, len(content), 3000))[:-3]


@pytest.mark.parametrize("cut", [lambda content: gzip.compress(content)[:-20], cut_in_the_last_block])
def test_damage_near_the_end_costs_only_what_is_behind_it(tmp_path: Path, cut: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "f"
    path.write_bytes(cut(b"".join(b'{"text": "row %d"}\n' % number for number in range(5000))))
    found: list[int] = []
    with pytest.raises(InputError) as caught:
        for line in read_lines(path, ignore):
            found.append(line.number)
    assert len(found) > 4000
    assert caught.value.line == found[-1] + 1


@pytest.mark.slow
@pytest.mark.parametrize("content", [
    gzip.compress(b"{}\n") + bytes(4 << 20), gzip.compress(b"{}\n") + gzip.compress(b"") * 56_000,
    zstd(b"{}\n") + zstd(b"") * 125_000], ids=["padding", "empty members", "empty frames"])
def test_what_gives_no_content_is_told_all_the_same_and_takes_no_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    told: list[int] = []
    tracemalloc.start()
    try:
        assert [line.number for line in read_lines(path, told.append)] == [1]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(told) >= len(content) >> 20
    assert max(after - before for before, after in itertools.pairwise([0, *told])) < 2 << 20
    assert peak_bytes < 2 << 20


def test_blank_lines_of_any_sort_are_counted(tmp_path: Path) -> None:
    assert lines(tmp_path, b"\r\n" * 400_000 + b" \n\t\n  {}\n") == [Line(400_003, b"  {}", 4)]


def test_utf16_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"UTF-16.*save it as UTF-8"):
        lines(tmp_path, '{"text": "a"}\n'.encode("utf-16"))


def test_a_line_may_have_sixteen_mebibytes_and_no_more(tmp_path: Path) -> None:
    content = b"a" * MAX_LINE_BYTES + b"\n" + b"b" * (MAX_LINE_BYTES + 1) + b"\n{}\n" + b"c" * (MAX_LINE_BYTES + 5)
    longest, too_long, short, last = lines(tmp_path, content)
    assert (longest.number, longest.size_bytes, longest.too_long) == (1, MAX_LINE_BYTES, False)
    assert len(longest.content) == MAX_LINE_BYTES
    assert (too_long.number, too_long.size_bytes, too_long.too_long) == (2, MAX_LINE_BYTES + 1, True)
    assert too_long.content == b"b" * KEPT_BYTES
    assert short == Line(3, b"{}", 2)
    assert (last.number, last.size_bytes, last.content) == (4, MAX_LINE_BYTES + 5, b"c" * KEPT_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_file_that_grows_immensely_takes_little_memory(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "f"
    path.write_bytes(compress(bytes(200 * 1024 * 1024)))
    tracemalloc.start()
    try:
        (line,) = read_lines(path, ignore)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.size_bytes == 200 * 1024 * 1024
    assert peak_bytes < 110 * 1024 * 1024


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "f"
    path.write_bytes(compress(CONTENT))
    told: list[int] = []
    list(read_lines(path, told.append))
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size


def test_what_progress_raises_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"{}\n" * 1_000_000)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(read_lines(path, stop))


def test_a_file_that_cannot_be_opened_is_not_its_contents_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StorageError):
            list(read_lines(path, ignore))
