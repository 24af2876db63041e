"""Every mistake is reported at once, with its key and its mend."""

from pathlib import Path

import pytest

from trainq import config
from trainq.errors import ConfigurationError


def test_defaults_need_no_file(tmp_path: Path) -> None:
    loaded = config.load({}, tmp_path)
    assert loaded.settings == config.Settings()
    assert loaded.home.root == tmp_path / "var"
    assert loaded.file is None


def test_environment_wins_over_file_and_both_are_named(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text("[train]\nepochs = 2\nbatch_rows = 4\nmicro_batch_rows = 2\n")
    loaded = config.load({"TRAINQ_TRAIN_EPOCHS": "5", "TRAINQ_DATA_MAP": '{prompt = "q"}'}, tmp_path)
    assert (loaded.settings.train.epochs, loaded.settings.train.batch_rows) == (5, 4)
    assert loaded.settings.data.map == {"prompt": "q"}
    assert loaded.origins["train.epochs"] == "TRAINQ_TRAIN_EPOCHS"
    assert loaded.origins["train.batch_rows"].endswith("trainq.toml")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text("""
        [trian]
        epochs = 1
        [train]
        epochs = 0
        learning_rat = 0.1
        batch_rows = "many"
        [broker]
        lease_seconds = 6
        [data.folders]
        x = 3
        [data.folders.y]
        mapp = {}
    """)
    with pytest.raises(ConfigurationError) as caught:
        config.load({"TRAINQ_LOG_LEVEL": "loud", "TRAINQ_TRAIN_EPOCH": "1"}, tmp_path)
    found = {problem.key: problem for problem in caught.value.problems}
    assert set(found) == {"[trian]", "train.epochs", "train.learning_rat", "train.batch_rows",
                          "broker.heartbeat_seconds", "data.folders.x", "data.folders.y.mapp", "log.level",
                          "TRAINQ_TRAIN_EPOCH"}
    assert "train" in found["[trian]"].mend
    assert "learning_rate" in found["train.learning_rat"].mend
    assert caught.value.exit_code == 78


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text("[train]\nepochs = \n")
    with pytest.raises(ConfigurationError, match="line 2"):
        config.load({}, tmp_path)


def test_a_home_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="bytes too long"):
        config.load({"TRAINQ_HOME": "/" + "x" * 120}, tmp_path)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TRAINQ_CONFIG"):
        config.load({"TRAINQ_CONFIG": str(tmp_path / "none.toml")}, tmp_path)


def test_folder_maps(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text('[data.folders.gsm8k]\nmap = {prompt = "question"}\n')
    assert config.load({}, tmp_path).settings.data.folders["gsm8k"].map == {"prompt": "question"}


def test_the_shipped_file_is_valid() -> None:
    config.load({}, config.project_root())
