"""Admission: what a submit becomes, and what is frozen with it."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from services.broker import admission
from trainq.config import DataSettings, FolderSettings, GuardSettings, Settings, TrainOverrides, TrainSettings
from trainq.errors import RequestReusedError, UsageError
from trainq.jobs import DuplicateSubmitted, JobSubmitted
from trainq.messages import Overrides, SubmitItem, TrainSpec

ITEM = SubmitItem(request_id="r1", name="a.jsonl", digest="0" * 64, size_bytes=3)
SETTINGS = Settings(
    train=TrainSettings(epochs=2),
    data=DataSettings(map={"text": "t"}, folders={"math": FolderSettings(map={"prompt": "q"}),
                                                  "math/deep": FolderSettings(map={"prompt": "deep"})}))
SPEC = admission.Freezer(SETTINGS).freeze(ITEM)


def admit(item: SubmitItem = ITEM, *, earlier: tuple[str, str] | None = None, duplicate: str | None = None,
          ) -> JobSubmitted | DuplicateSubmitted | str:
    return admission.admit(item, admission.request_digest(item), earlier=earlier, duplicate=duplicate, number=4,
                           spec=SPEC)


def test_a_new_file_is_a_new_job() -> None:
    event = admit()
    assert isinstance(event, JobSubmitted)
    assert (event.job, event.prepare, event.number) == ("train-4", "prepare-4", 4)
    assert event.spec == msgspec.to_builtins(admission.freeze(ITEM, SETTINGS))


def test_the_guards_of_now_are_frozen_and_an_older_job_has_none() -> None:
    settings = msgspec.structs.replace(SETTINGS, guard=GuardSettings(non_finite_in_a_row=7))
    spec = msgspec.to_builtins(admission.freeze(ITEM, settings))
    assert msgspec.convert(spec, TrainSpec).guard.non_finite_in_a_row == 7
    del spec["guard"]
    assert msgspec.convert(spec, TrainSpec).guard == GuardSettings.none()


def test_the_same_request_means_the_same_job() -> None:
    assert admit(earlier=(admission.request_digest(ITEM), "train-1")) == "train-1"


def test_an_id_used_for_something_else_is_refused() -> None:
    with pytest.raises(RequestReusedError):
        admit(earlier=("other", "train-1"))


def test_known_content_is_a_duplicate_unless_forced() -> None:
    assert isinstance(admit(duplicate="train-1"), DuplicateSubmitted)
    assert isinstance(admit(msgspec.structs.replace(ITEM, force=True), duplicate="train-1"), JobSubmitted)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(UsageError):
        admit(msgspec.structs.replace(ITEM, size_bytes=0))


def test_what_is_frozen_is_the_nearest_wish() -> None:
    def frozen(folder: str = "", **overrides: object) -> tuple[dict[str, str], int]:
        item = msgspec.structs.replace(ITEM, folder=folder, overrides=Overrides(**overrides))  # type: ignore[arg-type]
        spec = admission.freeze(item, SETTINGS)
        assert spec.data.folders == {}
        return spec.data.map, spec.train.epochs

    assert frozen() == ({"text": "t"}, 2)
    assert frozen("math/x") == ({"prompt": "q"}, 2)
    assert frozen("math/deep/y") == ({"prompt": "deep"}, 2)
    assert frozen("math", map={"prompt": "mine"}, epochs=5) == ({"prompt": "mine"}, 5)


def test_a_job_s_wishes_come_after_its_folder_s() -> None:
    wanting = TrainOverrides(learning_rate=0.5, schedule="cosine", batch_rows=8, seed=3)
    settings = Settings(train=TrainSettings(batch_rows=64, micro_batch_rows=32, threads=2, seed=9, folders={
        "math": wanting, "math/deep": TrainOverrides(epochs=4)}))

    def frozen(folder: str = "", **overrides: Any) -> TrainSettings:
        item = msgspec.structs.replace(ITEM, folder=folder, overrides=Overrides(**overrides))
        spec = admission.freeze(item, settings)
        # What a line begins with is no job's to say.
        assert (spec.line_seed, spec.train.folders) == (9, {})
        return spec.train

    base = msgspec.structs.replace(settings.train, folders={})
    assert frozen() == base
    in_math = msgspec.structs.replace(base, learning_rate=0.5, schedule="cosine", batch_rows=8, micro_batch_rows=8,
                                      seed=3)
    assert frozen("math/x") == in_math
    assert frozen("math/deep") == msgspec.structs.replace(base, epochs=4)
    assert frozen("math", schedule="wsd", batch_rows=16, precision="bf16") == msgspec.structs.replace(
        in_math, schedule="wsd", batch_rows=16, precision="bf16")
    with pytest.raises(UsageError, match="micro_batch_rows 32 is more than batch_rows 8"):
        frozen("math", micro_batch_rows=32)


def test_every_setting_but_the_machine_s_is_a_job_s_with_the_same_bounds() -> None:
    of_train, of_job = get_type_hints(TrainSettings, include_extras=True), get_type_hints(
        TrainOverrides, include_extras=True)
    assert of_train.keys() - of_job.keys() == {"threads", "checkpoint_seconds", "checkpoint_steps",
                                                     "checkpoint_max_share", "folders"}
    for name, hint in of_job.items():
        assert of_train[name] in get_args(hint), name
        assert TrainOverrides.__struct_fields__.index(name) == [
            field for field in TrainSettings.__struct_fields__ if field in of_job].index(name)


def test_a_request_is_still_the_same_request() -> None:
    """The journal keeps the digests of requests for ever: these are from before jobs could wish for more."""
    assert admission.request_digest(ITEM) == "89212cf9173548522e9a59217c941ec704b2de8de632cd1a24ef496bbcef25cd"
    wishing = msgspec.structs.replace(ITEM, overrides=Overrides(epochs=3, map={"text": "t"}))
    assert admission.request_digest(wishing) == "e2aba3497ca4540584ded8ef7fbc6c0c776d971fec51449b1dbc864d5a6657a9"


def test_what_was_frozen_before_has_the_defaults_that_do_the_same() -> None:
    before = {"model": "", "data": {}, "train": {"epochs": 2, "learning_rate": 0.1, "seed": 4, "max_grad_norm": 2.0}}
    spec = msgspec.convert(before, TrainSpec)
    assert spec.train == TrainSettings(epochs=2, learning_rate=0.1, seed=4, max_grad_norm=2.0)
    train = spec.train
    assert (train.schedule, train.rewarm_steps, train.precision, train.gradient_checkpointing) == (
        "constant", 0, "fp32", False)
    assert spec.line_seed is None
