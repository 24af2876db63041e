"""What is wrong with an installation, from its packages to its clock; and how to mend each.

It writes nothing, starts nothing and holds no lock, and works with everything down and with rubbish in the home.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainq import config
from trainq.config import HOME_KEY, Home, Settings
from trainq.doctor import installation, listeners, locks, loglines, machine, places
from trainq.doctor.findings import Check, Finding, Subject, Verdict, examine
from trainq.errors import ConfigurationError

__all__ = ["CHECKS", "Check", "Finding", "Subject", "Verdict", "examine", "subject_of"]

# In the order in which a person would go: what everything else stands on comes first.
CHECKS = (
    Check("python", installation.python),
    Check("packages", installation.packages),
    Check("configuration", installation.configuration),
    Check("home", places.folders),
    Check("file system", places.file_system),
    Check("socket paths", places.socket_paths),
    Check("disk", machine.disk),
    Check("memory", machine.memory),
    Check("limits", machine.limits),
    Check("clock", machine.clock),
    Check("gpu", machine.gpu_driver),
    Check("supervisord", listeners.supervisord),
    Check("locks", locks.locks),
    Check("sockets", listeners.sockets),
    Check("http", listeners.http),
    Check("broker", listeners.broker),
    Check("services", listeners.services),
    Check("orders", places.standing_files),
    Check("logs", loglines.recent_errors),
)


def subject_of(environment: Mapping[str, str], root: Path) -> Subject:
    """What there is to look at below ``root``, the folder of ``supervisord.conf``; however wrong its configuration."""
    try:
        found = config.load(environment, root)
    except ConfigurationError as error:
        home = Home(Path(environment.get(HOME_KEY) or root / "var").absolute())
        return Subject(environment, root, home, Settings(), problems=error.problems)
    return Subject(environment, root, found.home, found.settings, file=found.file)
