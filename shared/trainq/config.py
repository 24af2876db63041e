"""Configuration: one TOML file and ``TRAINQ_<SECTION>_<KEY>`` become frozen, validated objects.

Order, later wins: the defaults below, ``trainq.toml``, the environment. Every mistake is found and reported at once,
each with its key and its mend, before anything starts. Importing this module reads nothing; :func:`load` is told
where to look.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from trainq.errors import ConfigurationError, ConfigurationProblem

HOME_KEY = "TRAINQ_HOME"
FILE_KEY = "TRAINQ_CONFIG"
_PREFIX = "TRAINQ_"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
# A mapping names, for each field that a format needs, the column that holds it: {"prompt": "question"}.
ColumnMap = dict[str, str]
Epochs = Annotated[int, Meta(ge=1, le=1000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True):
    pass


class BrokerSettings(_Section, frozen=True, kw_only=True):
    """[broker]: the journal's process."""

    lease_seconds: Seconds = 30.0
    heartbeat_seconds: Seconds = 5.0
    prepare_wait_seconds: Seconds = 60.0
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3


class WatcherSettings(_Section, frozen=True, kw_only=True):
    """[watcher]: when a file in the inbox counts as settled, and how often the folder is swept without being told."""

    settle_seconds: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    sweep_seconds: Seconds = 10.0


class FolderSettings(_Section, frozen=True, kw_only=True):
    """[data.folders.NAME]: what is different for files under ``inbox/NAME/``."""

    map: ColumnMap = {}


class DataSettings(_Section, frozen=True, kw_only=True):
    """[data]: how rows are read and judged. Frozen into each job when it is submitted."""

    map: ColumnMap = {}
    max_bad_rows: Fraction = 0.01
    long_rows: Literal["drop", "truncate"] = "drop"
    held_out_fraction: Fraction = 0.0
    folders: dict[str, FolderSettings] = {}


class ModelSettings(_Section, frozen=True, kw_only=True):
    """[model]: the model that learns. An empty path means the built-in small model, made from scratch."""

    path: str = ""


class TrainSettings(_Section, frozen=True, kw_only=True):
    """[train]: how a job trains. Frozen into each job when it is submitted.

    ``batch_rows`` is the number of rows of one optimizer step; ``micro_batch_rows`` how many of them go through the
    model at once. ``learning_rate`` is reached after ``warmup_steps`` of the model line and held. ``threads`` 0 means
    one for each processor that this process may use.
    """

    epochs: Epochs = 1
    batch_rows: Annotated[int, Meta(ge=1, le=65_536)] = 16
    micro_batch_rows: Annotated[int, Meta(ge=1, le=65_536)] = 16
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 3e-4
    warmup_steps: Annotated[int, Meta(ge=0, le=1_000_000)] = 20
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.01
    max_grad_norm: Annotated[float, Meta(gt=0)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    checkpoint_seconds: Seconds = 600.0


class StatusSettings(_Section, frozen=True, kw_only=True):
    """[status]: how often the picture is published and written."""

    interval_seconds: Seconds = 1.0


class LogSettings(_Section, frozen=True, kw_only=True):
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section, frozen=True, kw_only=True):
    """All sections of ``trainq.toml``."""

    broker: BrokerSettings = BrokerSettings()
    watcher: WatcherSettings = WatcherSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    status: StatusSettings = StatusSettings()
    log: LogSettings = LogSettings()


class Home(msgspec.Struct, frozen=True):
    """The one folder that holds everything the system keeps, and the names in it."""

    root: Path

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def claimed(self) -> Path:
        return self.inbox / ".claimed"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def rejected(self) -> Path:
        return self.root / "rejected"

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def current(self) -> Path:
        return self.root / "current"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def status_file(self) -> Path:
        return self.root / "status.json"

    @property
    def request_socket(self) -> Path:
        return self.run / "broker.sock"

    @property
    def event_socket(self) -> Path:
        return self.run / "events.sock"

    @property
    def status_socket(self) -> Path:
        return self.run / "status.sock"

    def folders(self) -> tuple[Path, ...]:
        """Every folder that a service may expect to be there."""
        return (self.root, self.inbox, self.claimed, self.control, self.rejected, self.data, self.cache, self.metrics,
                self.checkpoints, self.run, self.logs)


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The validated whole: where the home is, the settings, and where each changed setting came from."""

    home: Home
    settings: Settings
    file: Path | None
    origins: dict[str, str]


def project_root() -> Path:
    """The checkout that this code belongs to: the folder of ``supervisord.conf`` and ``trainq.toml``."""
    return Path(__file__).resolve().parents[2]


# sun_path of unix(7) holds 108 bytes with the closing NUL.
MAX_SOCKET_PATH_BYTES = 107


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
    settings = _validate_settings(tables, origins, problems)
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(ConfigurationProblem(key=str(file), problem=f"not valid TOML: {error}",
                                             mend="correct the line named"))
    except OSError as error:
        problems.append(ConfigurationProblem(key=str(file), problem=f"it cannot be read: {error.strerror}",
                                             mend="make it readable for this user"))
    return {}


def _overlay_environment(tables: dict[str, Any], environment: Mapping[str, str], origins: dict[str, str],
                         problems: list[ConfigurationProblem]) -> None:
    known = {f"{_PREFIX}{section}_{field.name}".upper(): (section, field.name)
             for section, struct in _sections().items() for field in msgspec.structs.fields(struct)}
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
            table[key] = _parse_variable(text)
            origins[f"{section}.{key}"] = variable


def _parse_variable(text: str) -> Any:
    """A variable holds what the file would hold after the equals sign; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


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
    settings = Settings(**values)
    train = settings.train
    if train.micro_batch_rows > train.batch_rows:
        problems.append(ConfigurationProblem(
            key="train.micro_batch_rows",
            problem=f"{train.micro_batch_rows} is more than batch_rows {train.batch_rows}",
            mend="a micro-batch is a part of a batch: make it at most batch_rows"))
    if settings.broker.heartbeat_seconds * 2 > settings.broker.lease_seconds:
        problems.append(ConfigurationProblem(
            key="broker.heartbeat_seconds", problem=f"{settings.broker.heartbeat_seconds:g} s leaves no room for one "
            f"lost heartbeat in a lease of {settings.broker.lease_seconds:g} s",
            mend="make it at most half of lease_seconds"))
    return settings


Section = TypeVar("Section", bound=_Section)


def _validate_section(name: str, struct: type[Section], table: Mapping[str, Any], origins: Mapping[str, str],
                      problems: list[ConfigurationProblem]) -> Section:
    hints = get_type_hints(struct, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{name}.{key}"
        if key not in hints:
            problems.append(ConfigurationProblem(key=where, problem="no such setting", mend=_suggestion(key, hints)))
            continue
        if key == "folders" and isinstance(value, dict):
            values[key] = {
                folder: _validate_section(f"{where}.{folder}", FolderSettings, inner, origins, problems)
                for folder, inner in value.items() if isinstance(inner, dict)
            }
            problems.extend(ConfigurationProblem(key=f"{where}.{folder}", problem="it must be a section",
                                                 mend=f"write [{where}.{folder}]")
                            for folder, inner in value.items() if not isinstance(inner, dict))
            continue
        try:
            values[key] = msgspec.convert(value, hints[key], strict=True)
        except msgspec.ValidationError as error:
            origin = origins.get(where, "")
            problems.append(ConfigurationProblem(
                key=where, problem=f"{value!r} from {origin}: {error}" if origin else f"{value!r}: {error}",
                mend=f"the default is {getattr(struct(), key)!r}"))
    return struct(**values)


def _validate_home(home: Home, problems: list[ConfigurationProblem]) -> None:
    longest = max((home.request_socket, home.event_socket, home.status_socket), key=lambda path: len(bytes(path)))
    excess = len(bytes(longest)) - MAX_SOCKET_PATH_BYTES
    if excess > 0:
        problems.append(ConfigurationProblem(
            key=HOME_KEY, problem=f"the socket path {longest} is {excess} bytes too long "
            f"(the system allows {MAX_SOCKET_PATH_BYTES})", mend=f"choose a home with a shorter path: {HOME_KEY}=..."))


def _sections() -> dict[str, type[_Section]]:
    return dict(get_type_hints(Settings))


def _suggestion(given: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"
