"""Which generations come from which: what the journal says of the line, laid over the copies that there are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from trainq.checkpoints import parse_name
from trainq.journal import lineage
from trainq.journal.lineage import Span
from trainq.tracing.copies import Generation


class Line(NamedTuple):
    """The model line as the journal knows it: the head, the newest generation there ever was, and all forks."""

    generation: int
    checkpoint: str
    newest: int
    forks: Sequence[tuple[int, int]]

    @property
    def all_forks(self) -> list[tuple[int, int]]:
        """Also the one that the next generation will be, where the head is not the newest."""
        return [*self.forks, *([(self.newest + 1, self.generation)] if self.newest > self.generation else [])]


class Link(NamedTuple):
    """A generation of which there is a copy; or, without one, a stretch of which there is none."""

    first: int
    last: int
    copy: Generation | None = None


def chain(line: Line, generation: int, kept: Mapping[int, Generation]) -> list[Link]:
    """``generation`` and all that it descends from, newest first."""
    links: list[Link] = []
    for span in reversed(lineage.ancestry(line.all_forks, generation)):
        links += cut(Span(max(1, span.first), span.last), kept)
    return links


def chain_of_parents(generation: Generation, kept: Mapping[int, Generation]) -> list[Link]:
    """As :func:`chain`, as far as the manifests of the copies lead: each names its parent."""
    links = [Link(generation.number, generation.number, generation)]
    while (copy := links[-1].copy) is not None and (before := _before(copy)):
        links.append(Link(before, before, kept.get(before)))
    return links


def _before(copy: Generation) -> int:
    """The number of the generation that has made what is in this one; 0 if it is the first."""
    parent = parse_name(copy.facts.parent)
    return copy.facts.restored_from or (parent.generation if parent else 0)


def cut(span: Span, kept: Mapping[int, Generation]) -> list[Link]:
    """A stretch of the line, newest first: the copies that there are in it, and what lies between them."""
    links: list[Link] = []
    above = span.last
    for number in sorted((number for number in kept if span.first <= number <= span.last), reverse=True):
        if number < above:
            links.append(Link(number + 1, above))
        links.append(Link(number, number, kept[number]))
        above = number - 1
    return [*links, *([Link(span.first, above)] if span.first <= above else [])]


def holders(line: Line, trained: Iterable[int], newest: int) -> list[Span]:
    """The generations up to ``newest`` that hold a job which was trained to its end in ``trained``, in order."""
    found: list[Span] = []
    for span in sorted(span for generation in trained
                       for span in lineage.descendants(line.all_forks, newest, generation)):
        if found and span.first <= found[-1].last + 1:
            found[-1] = Span(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found
