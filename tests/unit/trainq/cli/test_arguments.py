"""From words to values."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from trainq import config
from trainq.cli import arguments
from trainq.errors import ConfigurationError


@pytest.mark.parametrize(("word", "job"), [("train-7", "train-7"), ("7", "train-7"), ("prepare-12", "prepare-12")])
def test_job_ids(word: str, job: str) -> None:
    assert arguments.job_id(word) == job


@pytest.mark.parametrize("word", ["", "TRAIN-7", "-7", "a b", "train/7", "x" * 65, "\u0667", "train-7\n"])
def test_words_that_are_no_job_ids(word: str) -> None:
    with pytest.raises(ArgumentTypeError, match="train-7"):
        arguments.job_id(word)


def test_a_map_gives_each_field_its_column() -> None:
    assert arguments.column_map("prompt=question,completion=the answer") == {
        "prompt": "question", "completion": "the answer"}
    assert arguments.column_map(" text = body=x ") == {"text": "body=x"}


@pytest.mark.parametrize(("word", "reason"), [
    ("", "not field=column"), ("prompt", "not field=column"), ("prompt=", "not field=column"),
    ("=question", "not field=column"), ("prompt=question,", "not field=column"),
    ("prompt=a,prompt=b", "two columns for 'prompt'"), ("promt=question", "'promt'.*known are"),
    ("prompt=a,completion=a", "two fields from one column"), ("text=\udcff", "UTF-8")])
def test_maps_that_are_none(word: str, reason: str) -> None:
    with pytest.raises(ArgumentTypeError, match=reason):
        arguments.column_map(word)


@pytest.mark.parametrize("word", ["-1", "1.0", "", "x", "²", "9" * 19])
def test_numbers_that_are_none(word: str) -> None:
    with pytest.raises(ArgumentTypeError):
        arguments.natural(word)


def test_epochs_have_the_configuration_s_bounds(tmp_path: Path) -> None:
    assert arguments.epochs("1000") == 1000 == arguments.MAX_EPOCHS
    with pytest.raises(ArgumentTypeError):
        arguments.epochs("1001")
    with pytest.raises(ConfigurationError) as refused:
        config.load({"TRAINQ_TRAIN_EPOCHS": "1001"}, tmp_path)
    assert [problem.key for problem in refused.value.problems] == ["train.epochs"]


def test_a_setting_of_a_job() -> None:
    assert arguments.override("learning_rate=1e-4") == ("learning_rate", 1e-4)
    assert arguments.override(" schedule = cosine ") == ("schedule", "cosine")


@pytest.mark.parametrize(("word", "reason"), [
    ("schedule", "not name=value"), ("=1", "not name=value"), ("seed=", "not name=value"), ("seed=\udcff", "UTF-8"),
    ("seeed=1", "did you mean seed"), ("seed=-1", "seed: '-1'.*default is 0"), ("threads=1", "no setting of a job")])
def test_settings_of_a_job_that_are_none(word: str, reason: str) -> None:
    with pytest.raises(ArgumentTypeError, match=reason):
        arguments.override(word)
