"""What a generator is, and what those that come along share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol, TypeVar

import msgspec
from blake3 import blake3

from trainq.errors import InputError, UsageError

Made = TypeVar("Made")

MAX_ROWS = 100_000
MAX_SEED = 2**63 - 1
# Seeds from here on are for the fixed problems by which a model is measured, see :func:`distinct`.
FIRST_FIXED_SEED = 2**60
_FIXED_SHARE = 1 / 4
# A generator that only repeats itself has nothing more to give. After 20 draws for each of n different rows, all of
# them equally likely, one that is still missing would be found with the probability n * exp(-20).
_VAIN_DRAWS, _VAIN_SHARE = 2_000, 20


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted: so many rows, of this level (from 1), from this seed; ``options`` are the generator's own."""

    count: int
    level: int
    seed: int
    options: dict[str, Any] = {}


class Generator(Protocol):
    """Makes rows, the same for the same request.

    ``name`` is what people call it, ``version`` changes when what it makes of a request does, ``levels`` is the highest
    level.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def levels(self) -> int: ...

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        """``request.count`` rows, ``{"messages": [...], "metadata": {...}}``, none of them twice.

        The metadata holds at least what :func:`provenance` makes.

        Raises:
            UsageError: it does not know one of the options.
            InputError: it cannot make so many.
        """


def provenance(generator: Generator, request: GenerateRequest, index: int, dataset: str) -> dict[str, Any]:
    """Where a row comes from; ``index``, with the rest, is enough to make it again."""
    return {"dataset": dataset, "generator": generator.name, "generator_version": generator.version,
            "level": request.level, "seed": request.seed, "sample_index": index}


def chat(question: str, answer: str) -> list[dict[str, str]]:
    """The messages of one turn."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def refuse_options(generator: Generator, request: GenerateRequest, known: Collection[str] = ()) -> None:
    """Raise :class:`UsageError` for an option that the generator does not know."""
    for name in request.options:
        if name not in known:
            raise UsageError(f"the generator {generator.name} has no option {name!r}",
                             mend=f"known are: {', '.join(known)}" if known else "it has none: leave it out")


def distinct(generator: Generator, request: GenerateRequest,
             make: Callable[[int], tuple[str, Made]]) -> Iterator[tuple[int, Made]]:
    """``request.count`` things with the index that each was made from; no two have one key.

    What is trained must not be what is measured with, and the easy levels are small enough to meet by chance. So the
    hash of its key says, for ever and at every level, where a thing belongs: a quarter of them comes from seeds above
    :data:`FIRST_FIXED_SEED` and no other, the rest from the seeds below.

    Args:
        generator: whose, for the error.
        request: how many.
        make: from an index (from 0) the key that tells a thing from others, whatever its level, and the thing.

    Raises:
        InputError: there are not so many; those that there are have been given out.
    """
    is_fixed = request.seed >= FIRST_FIXED_SEED
    share = _FIXED_SHARE if is_fixed else 1 - _FIXED_SHARE
    seen, vain, index = set[str](), 0, 0
    while len(seen) < request.count:
        key, made = make(index)
        if key in seen or _is_fixed(key) != is_fixed:
            vain += 1
            if vain * share > max(_VAIN_DRAWS, _VAIN_SHARE * len(seen)):
                raise InputError(f"{generator.name} has no more than {len(seen)} different rows at level "
                                 f"{request.level}, and {request.count} are asked for", field="count",
                                 mend=f"ask for {len(seen)}, or for another level" if seen else "ask for another level")
        else:
            seen.add(key)
            vain = 0
            yield index, made
        index += 1


def _is_fixed(key: str) -> bool:
    """Whether it is one of those that a model is measured by."""
    return blake3(key.encode()).digest()[0] < 256 * _FIXED_SHARE
