"""``trainq config check`` and ``trainq config show``."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.config import Configuration

_BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+$")  # TOML 1.0, "Keys"


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser("check", help="report every mistake", description="Report every mistake at once.",
                               allow_abbrev=False)
    check.set_defaults(action=_check)
    show = actions.add_parser("show", help="show every setting", description="Show every setting, as TOML.",
                              allow_abbrev=False)
    show.add_argument("--origin", action="store_true", help="also where each value came from")
    show.set_defaults(action=_show)
    for action in (check, show):
        add_json(action)


def _run(arguments: Namespace, context: Context) -> int:
    code: int = arguments.action(arguments, context)
    return code


def _check(_arguments: Namespace, context: Context) -> int:
    configuration = context.configuration
    file = str(configuration.file) if configuration.file else None
    if context.console.json:
        context.console.emit({"ok": True, "file": file, "home": str(configuration.home.root)})
    else:
        found = f"ok: {file or 'no file, the defaults apply'}; home {configuration.home.root}"
        context.console.line(printable(found))
    return 0


def _show(arguments: Namespace, context: Context) -> int:
    configuration = context.configuration
    settings: dict[str, dict[str, Any]] = msgspec.to_builtins(configuration.settings)
    origins = {f"{section}.{key}": configuration.origins.get(f"{section}.{key}", "default")
               for section, table in settings.items() for key in table}
    if context.console.json:
        context.console.emit({"home": str(configuration.home.root), "settings": settings, "origins": origins,
                              "file": str(configuration.file) if configuration.file else None})
        return 0
    for line in _toml_lines(configuration, settings, origins if arguments.origin else None):
        context.console.line(printable(line))
    return 0


def _toml_lines(configuration: Configuration, settings: dict[str, dict[str, Any]],
                origins: dict[str, str] | None) -> list[str]:
    lines = [f"# home: {configuration.home.root}", f"# file: {configuration.file or 'none'}"]
    for section, table in settings.items():
        lines += ["", f"[{section}]"]
        for key, value in table.items():
            remark = f"  # {origins[f'{section}.{key}']}" if origins else ""
            lines.append(f"{key} = {toml_value(value)}{remark}")
    return lines


def toml_value(value: Any) -> str:
    """``value`` as it stands behind an equals sign in TOML. JSON's strings, numbers and lists are TOML's too."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return json.dumps(value, ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.match(key) else json.dumps(key, ensure_ascii=False)


COMMANDS = {"config": Command(_configure, _run)}
