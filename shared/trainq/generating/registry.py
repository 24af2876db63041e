"""Which generators there are: those that come along, and plug-ins.

A plug-in is an installed distribution with an entry point of the group ``trainq.generators``: its name is the
generator's, its object a :class:`trainq.generating.base.Generator`, or a class of one that needs no arguments. None
takes the name of one that comes along. What is not asked for is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from trainq.errors import InputError, NotFoundError
from trainq.generating.arithmetic import Arithmetic
from trainq.generating.base import Generator
from trainq.generating.command import Command
from trainq.generating.syllo import Syllo

GROUP = "trainq.generators"

BUILT_IN: Mapping[str, Callable[[], Generator]] = {"arithmetic": Arithmetic, "command": Command, "syllo": Syllo}


def names() -> tuple[str, ...]:
    """All that can be asked for, by the alphabet; whether a plug-in works is seen when it is."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))


def find(name: str) -> Generator:
    """The generator of this name.

    Raises:
        NotFoundError: there is none.
        InputError: a plug-in cannot be imported, is no generator, or its name is taken.
    """
    points = tuple(entry_points(group=GROUP, name=name))
    built_in = BUILT_IN.get(name)
    if points and (built_in is not None or len(points) > 1):
        raise InputError(f"the generator {name} comes from more than one place: "
                         f"{', '.join([*['trainq'] * (built_in is not None), *map(_who, points)])}",
                         mend="uninstall one of them")
    if built_in is not None:
        return built_in()
    if not points:
        raise NotFoundError(f"there is no generator {name!r}; there are: {', '.join(names())}")
    return _load(points[0])


def _load(point: EntryPoint) -> Generator:
    try:
        loaded = point.load()
        made = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:  # whatever it does when it is imported, it is named
        raise InputError(f"the generator {point.name} of {_who(point)} cannot be loaded: "
                         f"{type(error).__name__}: {error}", mend=f"mend or uninstall {_who(point)}") from error
    wrong = _fault(made, point.name)
    if wrong:
        raise InputError(f"{point.value} of {_who(point)} is no generator: {wrong}",
                         mend="see trainq.generating.base.Generator")
    return cast(Generator, made)


def _fault(made: object, name: str) -> str:
    """Why it is no generator, or nothing."""
    found = getattr(made, "name", None)
    if found != name:
        return f"its name is {found!r}, not {name!r}"
    if not isinstance(getattr(made, "version", None), str):
        return "its version is no string"
    highest = getattr(made, "levels", None)
    if type(highest) is not int or highest < 1:
        return f"levels, the highest of them, is {highest!r}"
    return "" if callable(getattr(made, "rows", None)) else "it has no rows(request)"


def _who(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
