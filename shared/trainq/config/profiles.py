"""Which services take work: named sets of them, and what the configuration says of one. Pure.

Every program is always started; one that is not wanted stays up, PAUSED, and costs almost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET

from trainq.config.settings import ServicesSettings

_CORE = frozenset({"broker", "preparer", "status"})
_MINIMAL = _CORE | {"watcher", "trainer"}
# By name; None is everything that there is. The last four are of the names of an older system.
PROFILES: Mapping[str, frozenset[str] | None] = {
    "minimal": _MINIMAL,
    "standard": _MINIMAL | {"snapshot", "retention", "consolidator", "web"},
    "full": None,
    # Takes files, keeps the copies, is looked at; trains nothing.
    "coordinator": _CORE | {"watcher", "snapshot", "retention", "web"},
    # Trains what is submitted; has no inbox and no pages.
    "training_node": _CORE | {"trainer", "snapshot", "retention", "consolidator"},
    # A machine that may be taken away: what is trained is copied, and nothing is tidied.
    "ephemeral": _MINIMAL | {"snapshot"},
    # Makes and prepares files for others to train on.
    "selfplay": _CORE | {"watcher", "datagen"},
}


def names_of(profile: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the ``known`` services that the profile has, in their order."""
    has = PROFILES[profile]
    return known if has is None else tuple(name for name in known if name in has)


def why_unwanted(settings: ServicesSettings, service: str) -> str:
    """Why the service takes no work by the configuration; empty if it does."""
    own = getattr(settings, service, None)
    if own is None:
        return ""  # none of ours: whoever starts it wants it
    if own.enabled is not UNSET:
        return "" if own.enabled else f"not enabled: [services.{service}] enabled = false"
    has = PROFILES[settings.profile]
    return "" if has is None or service in has else f"not in profile: [services] profile = \"{settings.profile}\""
