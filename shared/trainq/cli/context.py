"""What every command is given: where to write, the environment, and on demand the configuration."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainq.cli.console import Console

if TYPE_CHECKING:
    from trainq.config import Configuration, Home


class Context:
    """One run of the command line. The configuration is read when it is first needed."""

    def __init__(self, console: Console, environment: Mapping[str, str]) -> None:
        self.console = console
        self.environment = environment

    @functools.cached_property
    def configuration(self) -> Configuration:
        """The configuration that applies here.

        Raises:
            ConfigurationError: with every mistake in it.
        """
        from trainq import config

        return config.load(self.environment, config.project_root())

    @property
    def home(self) -> Home:
        return self.configuration.home
