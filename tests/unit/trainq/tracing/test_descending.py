"""The chain of a generation, by the journal and by manifests, with what is gone in between."""

from __future__ import annotations

from trainq.checkpoints import CheckpointFacts, Cursor, Name
from trainq.journal.lineage import Span
from trainq.tracing.copies import Generation
from trainq.tracing.descending import Line, Link, chain, chain_of_parents, cut, holders


def copy(number: int, parent: int = 0, restored_from: int = 0) -> Generation:
    return Generation(CheckpointFacts(
        generation=number, step=number, cursor=Cursor(), journal_seq=1, fingerprint={}, rows_seen=0, tokens_seen=0,
        model="m", created_by="test", reason="job_end", parent=str(Name(parent, parent)) if parent else "",
        restored_from=restored_from), ("checkpoints",), None)


def numbers(links: list[Link]) -> list[int | tuple[int, int]]:
    return [link.first if link.copy is not None else (link.first, link.last) for link in links]


# Five generations, then back to the second one, then on to the eighth.
LINE = Line(8, "g000008-s00000008", 8, [(6, 2)])
KEPT = {number: copy(number, number - 1) for number in (8, 7, 5, 3, 2)} | {6: copy(6, 5, restored_from=2)}


def test_the_chain_goes_around_what_was_left() -> None:
    assert numbers(chain(LINE, 8, KEPT)) == [8, 7, 6, 2, (1, 1)]
    assert numbers(chain(LINE, 5, KEPT)) == [5, (4, 4), 3, 2, (1, 1)]
    assert numbers(chain(LINE, 4, KEPT)) == [(4, 4), 3, 2, (1, 1)]


def test_manifests_lead_as_far_as_there_are_copies() -> None:
    assert numbers(chain_of_parents(KEPT[8], KEPT)) == [8, 7, 6, 2, (1, 1)]
    assert numbers(chain_of_parents(KEPT[5], KEPT)) == [5, (4, 4)]
    assert numbers(chain_of_parents(copy(1), KEPT)) == [1]


def test_the_next_generation_after_a_step_back_is_a_fork() -> None:
    back = Line(2, "g000002-s00000002", 5, [])
    assert numbers(chain(back, 6, {6: copy(6)})) == [6, (1, 2)]
    assert holders(back, [4], 6) == [Span(4, 5)]
    assert holders(back, [2], 6) == [Span(2, 6)]


def test_who_holds_what_was_trained_in() -> None:
    assert holders(LINE, [2], 8) == [Span(2, 8)]
    assert holders(LINE, [4], 8) == [Span(4, 5)]
    assert holders(LINE, [4, 8], 8) == [Span(4, 5), Span(8, 8)]
    assert holders(LINE, [], 8) == []


def test_a_stretch_without_any_copy() -> None:
    assert cut(Span(3, 5), {}) == [Link(3, 5)]
