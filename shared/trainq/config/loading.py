"""Reading the file and the environment, and finding every mistake in them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from trainq.config import intervals, learning, quiet
from trainq.config.home import MAX_SOCKET_PATH_BYTES, Home
from trainq.config.learning import GeneratorSettings
from trainq.config.overriding import overridden, parse_value
from trainq.config.section import Section
from trainq.config.settings import (
    KNOWN_FIELDS,
    REPLAY_FRACTION,
    DataSettings,
    FolderSettings,
    RetentionSettings,
    Settings,
    TrainOverrides,
    TrainSettings,
)
from trainq.config.timing import ScheduleRule
from trainq.errors import ConfigurationError, ConfigurationProblem, UsageError

HOME_KEY = "TRAINQ_HOME"
FILE_KEY = "TRAINQ_CONFIG"
_PREFIX = "TRAINQ_"
# What a model folder must have to be trained on: its architecture, and the fast tokenizer.
_MODEL_FILES = ("config.json", "tokenizer.json")


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The validated whole: where the home is, the settings, and where each changed setting came from."""

    home: Home
    settings: Settings
    file: Path | None
    origins: dict[str, str]


def project_root() -> Path:
    """The checkout that this code belongs to: the folder of ``supervisord.conf`` and ``trainq.toml``."""
    return Path(__file__).resolve().parents[3]


def load(environment: Mapping[str, str], root: Path) -> Configuration:
    """Read the configuration that applies below ``root`` (the folder of ``supervisord.conf``).

    Args:
        environment: usually ``os.environ``; ``TRAINQ_HOME`` and ``TRAINQ_CONFIG`` say where home and file are.
        root: where ``trainq.toml`` and the default home ``var/`` lie.

    Raises:
        ConfigurationError: with every mistake in the file, the environment and the home's path.
    """
    problems: list[ConfigurationProblem] = []
    file = Path(environment[FILE_KEY]) if environment.get(FILE_KEY) else root / "trainq.toml"
    tables = _read_file(file, must_exist=bool(environment.get(FILE_KEY)), problems=problems)
    origins = {f"{section}.{key}": str(file)
               for section, table in tables.items() if isinstance(table, dict) for key in table}
    _overlay_environment(tables, environment, origins, problems)
    intervals.resolve(tables, origins, problems)
    settings = _validate_settings(tables, origins, problems)
    _validate_model(settings.model.path, root, problems)
    home = Home(Path(environment.get(HOME_KEY) or root / "var").absolute())
    _validate_home(home, problems)
    if problems:
        raise ConfigurationError(problems)
    return Configuration(home=home, settings=settings, file=file if file.exists() else None, origins=origins)


def _read_file(file: Path, *, must_exist: bool, problems: list[ConfigurationProblem]) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            problems.append(ConfigurationProblem(key=FILE_KEY, problem=f"there is no file {file}",
                                                 mend="name an existing file, or unset it"))
    # ValueError: not UTF-8, or a number of over 4,300 digits, which Python refuses; both beside TOMLDecodeError.
    except (ValueError, RecursionError) as error:
        problems.append(ConfigurationProblem(key=str(file), problem=f"not valid TOML: {error}",
                                             mend="correct the line named"))
    except OSError as error:
        problems.append(ConfigurationProblem(key=str(file), problem=f"it cannot be read: {error.strerror}",
                                             mend="make it readable for this user"))
    return {}


def _overlay_environment(tables: dict[str, Any], environment: Mapping[str, str], origins: dict[str, str],
                         problems: list[ConfigurationProblem]) -> None:
    known = {f"{_PREFIX}{section}_{key}".upper(): (section, key)
             for section, struct in _sections().items() for key in struct.__struct_fields__}
    sections = tuple(f"{_PREFIX}{section}_".upper() for section in _sections())
    for variable, text in sorted(environment.items()):
        if not variable.startswith(sections):
            continue
        if variable not in known:
            problems.append(ConfigurationProblem(key=variable, problem="no such setting",
                                                 mend=_suggestion(variable, known)))
            continue
        section, key = known[variable]
        table = tables.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = parse_value(text)
            origins[f"{section}.{key}"] = variable


def _validate_settings(tables: Mapping[str, Any], origins: Mapping[str, str],
                       problems: list[ConfigurationProblem]) -> Settings:
    sections = _sections()
    values: dict[str, Any] = {}
    for name, table in tables.items():
        if name not in sections:
            problems.append(ConfigurationProblem(key=f"[{name}]", problem="no such section",
                                                 mend=_suggestion(name, sections)))
        elif not isinstance(table, dict):
            problems.append(ConfigurationProblem(key=name, problem="it must be a section", mend=f"write [{name}]"))
        else:
            values[name] = _validate_section(name, sections[name], table, origins, problems)
    settings = _with_replay(_lower_micro_batch(Settings(**values), tables), tables)
    _validate_data(settings.data, problems)
    _validate_train(settings.train, problems)
    learning.validate(settings.datagen, settings.evaluation, settings.promotion, settings.curriculum, problems)
    if settings.broker.heartbeat_seconds * 2 > settings.broker.lease_seconds:
        problems.append(ConfigurationProblem(
            key="broker.heartbeat_seconds", problem=f"{settings.broker.heartbeat_seconds:g} s leaves no room for one "
            f"lost heartbeat in a lease of {settings.broker.lease_seconds:g} s",
            mend="make it at most half of lease_seconds"))
    _validate_retention(settings.retention, problems)
    problems.extend(ConfigurationProblem(key=f"gate.{key}", problem=problem, mend=mend)
                    for key, problem, mend in settings.gate.faults())
    for hours in settings.trainer.quiet_hours:
        try:
            quiet.parse(hours)
        except ValueError as error:
            problems.append(ConfigurationProblem(key="trainer.quiet_hours", problem=str(error),
                                                 mend='write "22:00-07:00", with two different times'))
    if settings.schedule.rules or settings.schedule.time_zone != "local":
        from trainq.config import schedules  # time zones and cron lines, for those alone who have set some

        schedules.validate(settings.schedule, problems)
    return settings


def _validate_retention(settings: RetentionSettings, problems: list[ConfigurationProblem]) -> None:
    """Rules that keep nothing are a mistake, never a wish."""
    for store in ("checkpoints", "snapshots"):
        rules = [key for key in settings.__struct_fields__ if key.startswith(f"{store}_")]
        if not any(getattr(settings, key) for key in rules):
            problems.append(ConfigurationProblem(
                key=f"retention.{store}_last", problem=f"the rules for {store} keep nothing: "
                f"{', '.join(rules)} {'are all' if len(rules) > 1 else 'is'} 0", mend="set one of them to 1 at least"))


def _lower_micro_batch(settings: Settings, tables: Mapping[str, Any]) -> Settings:
    """Who sets only ``batch_rows`` means the micro-batch to fit into it."""
    train, table = settings.train, tables.get("train")
    if (isinstance(table, dict) and "micro_batch_rows" in table) or train.micro_batch_rows <= train.batch_rows:
        return settings
    return msgspec.structs.replace(settings,
                                   train=msgspec.structs.replace(train, micro_batch_rows=train.batch_rows))


def _with_replay(settings: Settings, tables: Mapping[str, Any]) -> Settings:
    """Who says nothing of replay has some; a job that was frozen before there was any has none."""
    table = tables.get("data")
    if isinstance(table, dict) and "replay_fraction" in table:
        return settings
    return msgspec.structs.replace(settings,
                                   data=msgspec.structs.replace(settings.data, replay_fraction=REPLAY_FRACTION))


def _validate_data(settings: DataSettings, problems: list[ConfigurationProblem]) -> None:
    maps = {"data.map": settings.map}
    for folder, inner in settings.folders.items():
        maps[f"data.folders.{folder}.map"] = inner.map
        _validate_folder("data", folder, problems)
    problems.extend(ConfigurationProblem(key=f"{key}.{field}", problem=problem, mend=mend)
                    for key, columns in maps.items() for field, problem, mend in mapping_faults(columns))


def _validate_train(train: TrainSettings, problems: list[ConfigurationProblem]) -> None:
    if train.micro_batch_rows > train.batch_rows:
        problems.append(ConfigurationProblem(
            key="train.micro_batch_rows",
            problem=f"{train.micro_batch_rows} is more than batch_rows {train.batch_rows}",
            mend="a micro-batch is a part of a batch: make it at most batch_rows"))
    for folder, inner in train.folders.items():
        _validate_folder("train", folder, problems)
        try:
            overridden(train, inner)
        except UsageError as error:
            problems.append(ConfigurationProblem(key=f"train.folders.{folder}.micro_batch_rows",
                                                 problem=error.message, mend=error.mend))


def _validate_folder(section: str, folder: str, problems: list[ConfigurationProblem]) -> None:
    # Folders are told by their path below the inbox; hidden ones are not looked into.
    if any(not part or part.startswith(".") for part in folder.split("/")):
        problems.append(ConfigurationProblem(
            key=f"{section}.folders.{folder!r}", problem="no file can ever lie in a folder of this name",
            mend='write the path below the inbox, like "math" or "math/easy"'))


def mapping_faults(columns: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What is wrong with a mapping: (field, problem, mend) each."""
    faults: list[tuple[str, str, str]] = []
    taken: dict[str, str] = {}
    for field, column in columns.items():
        if field not in KNOWN_FIELDS:
            faults.append((field, f"the mapping names a field {field!r} that there is not",
                           f"known are: {', '.join(KNOWN_FIELDS)}"))
        elif not column:
            faults.append((field, f"the mapping gives no column for {field!r}", f"write {field}=<column>"))
        elif column in taken:
            faults.append((field, f"the mapping takes two fields from one column: {taken[column]!r} and {field!r} from "
                           f"{column!r}", "give each field a column of its own"))
        else:
            taken[column] = field
    return faults


def _validate_model(path: str, root: Path, problems: list[ConfigurationProblem]) -> None:
    if not path:
        return
    folder = root / path  # the services run in root, so that is where a relative path leads
    try:
        missing = [name for name in _MODEL_FILES if not (folder / name).is_file()] if folder.is_dir() else None
    except (OSError, ValueError) as error:  # not to be entered; too long; a NUL in it
        problems.append(ConfigurationProblem(key="model.path", problem=f"{path!r} cannot be looked into: {error}",
                                             mend="make it readable for this user"))
        return
    if missing is None:
        problems.append(ConfigurationProblem(key="model.path", problem=f"there is no folder {folder}",
                                             mend='name the folder of a model, or write "" for the built-in one'))
    elif missing:
        problems.append(ConfigurationProblem(
            key="model.path", problem=f"there is no {' and no '.join(missing)} in {folder}",
            mend="name a folder that save_pretrained of a model and of its fast tokenizer has written"))


_MOST_QUOTED = 200
# Settings that are sections under names that people choose.
_NAMED_SECTIONS: Mapping[str, type[Section]] = {
    "data.folders": FolderSettings, "train.folders": TrainOverrides, "schedule.rules": ScheduleRule,
    "datagen.generators": GeneratorSettings}

One = TypeVar("One", bound=Section)


def _validate_section(name: str, struct: type[One], table: Mapping[str, Any], origins: Mapping[str, str],
                      problems: list[ConfigurationProblem]) -> One:
    hints = get_type_hints(struct, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{name}.{key}"
        if key not in hints:
            problems.append(ConfigurationProblem(key=where, problem="no such setting", mend=_suggestion(key, hints)))
            continue
        if where in _NAMED_SECTIONS and isinstance(value, dict):
            values[key] = {
                folder: _validate_section(f"{where}.{folder}", _NAMED_SECTIONS[where], inner, origins, problems)
                for folder, inner in value.items() if isinstance(inner, dict)
            }
            problems.extend(ConfigurationProblem(key=f"{where}.{folder}", problem="it must be a section",
                                                 mend=f"write [{where}.{folder}]")
                            for folder, inner in value.items() if not isinstance(inner, dict))
            continue
        inner_section = hints[key]
        if isinstance(inner_section, type) and issubclass(inner_section, Section) and isinstance(value, dict):
            values[key] = _validate_section(where, inner_section, value, origins, problems)
            continue
        try:
            values[key] = msgspec.convert(value, hints[key], strict=True)
        except msgspec.ValidationError as error:
            origin = origins.get(where, "")
            problems.append(ConfigurationProblem(
                key=where, problem=f"{_quoted(value)}{f' from {origin}' if origin else ''}: {error}",
                mend="leave it out to have what [train] says" if struct is TrainOverrides else
                f"the default is {getattr(struct(), key)!r}"))
    return struct(**values)


def _quoted(value: object) -> str:
    """A value as a report shows it, never at any length."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of over 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."


def _validate_home(home: Home, problems: list[ConfigurationProblem]) -> None:
    sockets = home.request_socket, home.event_socket, home.status_socket, home.picture_socket
    longest = max(sockets, key=lambda path: len(bytes(path)))
    excess = len(bytes(longest)) - MAX_SOCKET_PATH_BYTES
    if excess > 0:
        problems.append(ConfigurationProblem(
            key=HOME_KEY, problem=f"the socket path {longest} is {excess} bytes too long "
            f"(the system allows {MAX_SOCKET_PATH_BYTES})", mend=f"choose a home with a shorter path: {HOME_KEY}=..."))


def _sections() -> dict[str, type[Section]]:
    return dict(get_type_hints(Settings))


def _suggestion(given: str, known: Mapping[str, object]) -> str:
    import difflib  # for mistakes only

    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"
