"""Which services take work, by the named sets and by what is said of one; and their intervals under one name."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from trainq import config, picture
from trainq.config import PROFILES, ServiceSettings, ServicesSettings, names_of, why_unwanted
from trainq.config.intervals import PLACES
from trainq.errors import ConfigurationError


def unwanted(settings: ServicesSettings) -> set[str]:
    return {name for name in picture.SERVICES if why_unwanted(settings, name)}


def test_each_profile_can_be_set_and_has_the_broker() -> None:
    assert set(get_args(get_type_hints(ServicesSettings)["profile"])) == set(PROFILES)
    for name in PROFILES:
        assert {"broker", "preparer", "status"} <= set(names_of(name, picture.SERVICES)), name
    assert names_of("full", picture.SERVICES) == picture.SERVICES
    assert names_of("minimal", picture.SERVICES) == ("broker", "watcher", "preparer", "trainer", "status")


def test_every_service_but_the_broker_has_settings_of_its_own() -> None:
    assert {*picture.SERVICES} - {"broker"} <= set(ServicesSettings.__struct_fields__)


def test_by_default_all_work_but_those_that_change_what_is_trained() -> None:
    assert unwanted(ServicesSettings()) == {"evaluator", "datagen"}
    assert unwanted(ServicesSettings(profile="full")) == set()


def test_outside_the_profile_is_said_so() -> None:
    settings = ServicesSettings(profile="minimal")
    assert unwanted(settings) >= {"snapshot", "retention", "consolidator"}
    assert why_unwanted(settings, "snapshot") == 'not in profile: [services] profile = "minimal"'
    assert "trainer" in unwanted(ServicesSettings(profile="coordinator"))


def test_a_service_of_somebody_s_own_is_in_every_profile() -> None:
    assert why_unwanted(ServicesSettings(profile="minimal"), "mine") == ""


def test_what_is_said_of_one_service_wins() -> None:
    settings = ServicesSettings(profile="minimal", snapshot=ServiceSettings(enabled=True),
                                watcher=ServiceSettings(enabled=False))
    assert why_unwanted(settings, "snapshot") == ""
    assert why_unwanted(settings, "watcher") == "not enabled: [services.watcher] enabled = false"


def load(folder: Path, text: str) -> config.Configuration:
    (folder / "trainq.toml").write_text(text)
    return config.load({}, folder)


def test_an_interval_is_another_name_for_the_setting_that_there_is(tmp_path: Path) -> None:
    settings = load(tmp_path, """
        [services.watcher]
        interval_seconds = 3
        [services.status]
        interval_seconds = 0.5
        [services.snapshot]
        interval_seconds = 7200
        [services.consolidator]
        interval_seconds = 3600
        enabled = false
    """).settings
    assert settings.watcher.sweep_seconds == 3.0
    assert settings.status.interval_seconds == 0.5
    rules = settings.schedule.all_rules
    assert (rules["snapshot"].task, rules["snapshot"].every_hours) == ("snapshot", 2.0)
    assert (rules["consolidation"].task, rules["consolidation"].every_hours) == ("consolidation", 1.0)
    assert settings.services.consolidator.enabled is False


def test_every_interval_has_a_place_that_there_is(tmp_path: Path) -> None:
    for name in PLACES:
        load(tmp_path, f"[services.{name}]\ninterval_seconds = 60")


def test_every_mistake_in_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, """
            [services]
            profile = "huge"
            [services.trainer]
            interval_seconds = 3
            [services.watcher]
            interval_seconds = 3
            [services.snapshot]
            interval_seconds = 0
            [services.status]
            interval_seconds = "often"
            [services.retention]
            enabled = 1
            interval_seconds = 60
            [services.nobody]
            enabled = true
            [services.preparer]
            enable = true
            [watcher]
            sweep_seconds = 4
            [schedule]
            rules = 3
        """)
    assert {problem.key for problem in caught.value.problems} == {
        "services.profile", "services.trainer.interval_seconds", "services.watcher.interval_seconds",
        "services.snapshot.interval_seconds", "services.status.interval_seconds", "services.retention.enabled",
        "services.nobody", "services.preparer.enable", "schedule.rules"}


def test_the_environment_names_a_profile(tmp_path: Path) -> None:
    loaded = config.load({"TRAINQ_SERVICES_PROFILE": "minimal", "TRAINQ_SERVICES_SNAPSHOT": "{enabled = true}"},
                         tmp_path)
    assert loaded.settings.services.profile == "minimal"
    assert loaded.settings.services.snapshot.enabled is True
