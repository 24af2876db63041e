"""Configuration: one TOML file and ``TRAINQ_<SECTION>_<KEY>`` become frozen, validated objects.

Order, later wins: the defaults below, ``trainq.toml``, the environment. Every mistake is found and reported at once,
each with its key and its mend, before anything starts. Importing this module reads nothing; :func:`load` is told
where to look.
"""

from trainq.config.gating import MEASURES, GateSettings
from trainq.config.home import MAX_SOCKET_PATH_BYTES, Home
from trainq.config.learning import (
    CurriculumSettings,
    DatagenSettings,
    EvaluationSettings,
    GeneratorSettings,
    PromotionSettings,
)
from trainq.config.loading import FILE_KEY, HOME_KEY, Configuration, load, mapping_faults, project_root
from trainq.config.overriding import OVERRIDABLE, nearest, overridden, parse_override
from trainq.config.profiles import PROFILES, names_of, why_unwanted
from trainq.config.settings import (
    KNOWN_FIELDS,
    BrokerSettings,
    ColumnMap,
    ConsolidationSettings,
    DataSettings,
    DiskSettings,
    Epochs,
    FolderSettings,
    GuardSettings,
    LogSettings,
    LoraSettings,
    MaintenanceSettings,
    ModelSettings,
    RetentionSettings,
    ServiceSettings,
    ServicesSettings,
    Settings,
    StatusSettings,
    TrainerSettings,
    TrainOverrides,
    TrainSettings,
    WatcherSettings,
    WebSettings,
)
from trainq.config.timing import ScheduleRule, ScheduleSettings

__all__ = [
    "FILE_KEY",
    "HOME_KEY",
    "KNOWN_FIELDS",
    "MAX_SOCKET_PATH_BYTES",
    "MEASURES",
    "OVERRIDABLE",
    "PROFILES",
    "BrokerSettings",
    "ColumnMap",
    "Configuration",
    "ConsolidationSettings",
    "CurriculumSettings",
    "DataSettings",
    "DatagenSettings",
    "DiskSettings",
    "Epochs",
    "EvaluationSettings",
    "FolderSettings",
    "GateSettings",
    "GeneratorSettings",
    "GuardSettings",
    "Home",
    "LogSettings",
    "LoraSettings",
    "MaintenanceSettings",
    "ModelSettings",
    "PromotionSettings",
    "RetentionSettings",
    "ScheduleRule",
    "ScheduleSettings",
    "ServiceSettings",
    "ServicesSettings",
    "Settings",
    "StatusSettings",
    "TrainOverrides",
    "TrainSettings",
    "TrainerSettings",
    "WatcherSettings",
    "WebSettings",
    "load",
    "mapping_faults",
    "names_of",
    "nearest",
    "overridden",
    "parse_override",
    "project_root",
    "why_unwanted",
]
