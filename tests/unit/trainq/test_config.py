"""Every mistake is reported at once, with its key and its mend."""

from pathlib import Path

import pytest

from trainq import config, samples
from trainq.errors import ConfigurationError, UsageError


def test_defaults_need_no_file(tmp_path: Path) -> None:
    loaded = config.load({}, tmp_path)
    # What lacks a share of replay was frozen before there was one; who configures nothing has it.
    assert loaded.settings.data.replay_fraction == 0.1
    assert loaded.settings == config.Settings(data=config.DataSettings(replay_fraction=0.1))
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


def mistakes(root: Path, content: str, **environment: str) -> dict[str, str]:
    """Each key with its problem and its mend."""
    (root / "trainq.toml").write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        config.load(environment, root)
    assert all(problem.mend for problem in caught.value.problems)
    return {problem.key: f"{problem.problem}; {problem.mend}" for problem in caught.value.problems}


def test_the_limits_of_the_gate_must_rise(tmp_path: Path) -> None:
    content = "[gate]\nwrong = [0.2, 0.1, 0.3]\nlong = [0.1, 2.0, 3.0]\non_poor = 'x'\n"
    assert set(mistakes(tmp_path, content)) == {"gate.wrong", "gate.long", "gate.on_poor"}


def test_the_fields_of_a_mapping_are_those_of_the_formats() -> None:
    assert set(config.KNOWN_FIELDS) == set(samples.KNOWN_FIELDS)


def test_a_mapping_that_is_not_possible_is_a_mistake(tmp_path: Path) -> None:
    found = mistakes(tmp_path, """
        [data]
        map = {promt = "q", completion = ""}
        [data.folders.math]
        map = {prompt = "a", completion = "a"}
    """)
    assert set(found) == {"data.map.promt", "data.map.completion", "data.folders.math.map.completion"}
    assert "prompt" in found["data.map.promt"]
    assert "one column" in found["data.folders.math.map.completion"]
    assert set(mistakes(tmp_path, "", TRAINQ_DATA_MAP='{promt = "q"}')) == {"data.map.promt"}


@pytest.mark.parametrize("folder", ["", "/", "/math", "math/", "a//b", "..", "a/../b", "./a", ".hidden"])
def test_a_folder_that_can_never_match_is_a_mistake(tmp_path: Path, folder: str) -> None:
    content = f'[data.folders."{folder}"]\nmap = {{prompt = "q"}}\n'
    assert set(mistakes(tmp_path, content)) == {f"data.folders.{folder!r}"}


def test_a_folder_below_another_is_none(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text('[data.folders."math/easy 1..2"]\nmap = {prompt = "q"}\n')
    assert set(config.load({}, tmp_path).settings.data.folders) == {"math/easy 1..2"}


def test_a_model_must_be_there_and_whole(tmp_path: Path) -> None:
    content = '[model]\npath = "models/m"\n'
    assert f"no folder {tmp_path}/models/m" in mistakes(tmp_path, content)["model.path"]
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    assert "no config.json and no tokenizer.json" in mistakes(tmp_path, content)["model.path"]
    (folder / "config.json").write_text("{}")
    assert "there is no tokenizer.json in" in mistakes(tmp_path, content)["model.path"]
    (folder / "tokenizer.json").write_text("{}")
    assert config.load({}, tmp_path).settings.model.path == "models/m"
    assert config.load({"TRAINQ_MODEL_PATH": str(folder)}, tmp_path).settings.model.path == str(folder)
    assert set(mistakes(tmp_path, f'[model]\npath = "{"x" * 5000}"\n')) == {"model.path"}
    assert set(mistakes(tmp_path, '[model]\npath = "a\\u0000b"\n')) == {"model.path"}


@pytest.mark.parametrize(("content", "micro_batch_rows"), [
    ("batch_rows = 8", 8), ("batch_rows = 16", 16), ("batch_rows = 64", 16),
    ("batch_rows = 64\nmicro_batch_rows = 32", 32),
])
def test_a_micro_batch_that_is_not_set_fits_into_its_batch(tmp_path: Path, content: str, micro_batch_rows: int) -> None:
    (tmp_path / "trainq.toml").write_text(f"[train]\n{content}\n")
    assert config.load({}, tmp_path).settings.train.micro_batch_rows == micro_batch_rows


def test_a_micro_batch_that_is_set_is_not_changed(tmp_path: Path) -> None:
    assert set(mistakes(tmp_path, "[train]\nbatch_rows = 8\nmicro_batch_rows = 16\n")) == {"train.micro_batch_rows"}
    assert set(mistakes(tmp_path, "train = 3\n")) == {"train"}
    assert config.load({"TRAINQ_TRAIN_BATCH_ROWS": "4"}, tmp_path / "none").settings.train.micro_batch_rows == 4


def test_rules_of_retention_that_keep_nothing_are_a_mistake(tmp_path: Path) -> None:
    content = "[retention]\ncheckpoints_last = 0\nsnapshots_last = 0\nsnapshots_daily = 0\nsnapshots_weekly = 0\n"
    assert set(mistakes(tmp_path, content)) == {"retention.checkpoints_last", "retention.snapshots_last"}
    assert set(mistakes(tmp_path, content.replace("daily = 0", "daily = 1"))) == {"retention.checkpoints_last"}


def test_what_a_folder_s_files_train_otherwise(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text("""
        [train]
        micro_batch_rows = 8
        [train.folders.math]
        learning_rate = 1e-4
        schedule = "cosine"
        [train.folders."math/easy"]
        gradient_checkpointing = true
        max_grad_norm = 0
    """)
    assert config.load({}, tmp_path).settings.train.folders == {
        "math": config.TrainOverrides(learning_rate=1e-4, schedule="cosine"),
        "math/easy": config.TrainOverrides(gradient_checkpointing=True, max_grad_norm=0.0)}


def test_mistakes_in_how_a_job_trains(tmp_path: Path) -> None:
    found = mistakes(tmp_path, """
        [train]
        schedule = "cosin"
        min_rate_fraction = 1.5
        decay_fraction = -0.1
        rewarm_steps = -1
        precision = "fp8"
        gradient_checkpointing = 1
        max_grad_norm = -1.0
        learning_rate = nan
        [train.folders.math]
        learning_rate = 0
        threads = 2
        schedul = "wsd"
        [train.folders.easy]
        batch_rows = 4
        micro_batch_rows = 8
        [train.folders."../x"]
        epochs = 2
    """)
    assert set(found) == {
        "train.schedule", "train.min_rate_fraction", "train.decay_fraction", "train.rewarm_steps", "train.precision",
        "train.gradient_checkpointing", "train.max_grad_norm", "train.learning_rate",
        "train.folders.math.learning_rate", "train.folders.math.threads", "train.folders.math.schedul",
        "train.folders.easy.micro_batch_rows", "train.folders.'../x'"}
    assert "default is 'constant'" in found["train.schedule"]
    assert "did you mean schedule" in found["train.folders.math.schedul"]
    assert "what [train] says" in found["train.folders.math.learning_rate"]


@pytest.mark.parametrize(("name", "text", "value"), [
    ("learning_rate", "1e-4", 1e-4), ("learning_rate", "1", 1.0), ("schedule", "cosine", "cosine"),
    ("schedule", '"wsd"', "wsd"), ("batch_rows", "64", 64), ("gradient_checkpointing", "true", True),
    ("max_grad_norm", "0", 0.0)])
def test_a_wish_is_written_as_in_the_file(name: str, text: str, value: object) -> None:
    assert config.parse_override(name, text) == value


@pytest.mark.parametrize(("name", "text", "reason"), [
    ("learning_rat", "1", "did you mean learning_rate"), ("zzz", "1", "known are: epochs, batch_rows"),
    ("threads", "2", "threads is no setting of a job"), ("checkpoint_steps", "2", "is no setting of a job"),
    ("folders", "{}", "is no setting of a job"), ("learning_rate", "0", "> 0.0.*the default is 0.0003"),
    ("learning_rate", "fast", "Expected `float`"), ("batch_rows", "1.5", "batch_rows: '1.5'"),
    ("schedule", "cosin", "Invalid enum value"), ("gradient_checkpointing", "1", "Expected `bool"),
    ("seed", "9" * 5000, "seed")])
def test_a_wish_that_is_none(name: str, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        config.parse_override(name, text)


@pytest.mark.parametrize(("text", "key"), [
    ("[curriculum]\ndown = 0.9", "curriculum.down"), ("[evaluation]\nproblems = 20", "evaluation.problems"),
    ("[evaluation]\nconfidence = 0.5", "evaluation.confidence"), ("[promotion]\nsuites = []", "promotion.suites"),
    ('[promotion]\npublish_to = [""]', "promotion.publish_to"),
    ('[promotion]\npublish_to = ["relative"]', "promotion.publish_to"),
    ('[datagen.generators."A B"]\nweight = 1', "datagen.generators.A B"),
    ("[datagen]\nrows = 1000000", "datagen.rows")])
def test_what_would_never_do_anything_is_a_mistake(text: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        config.load({}, tmp_path)
    assert [problem.key for problem in raised.value.problems] == [key]
