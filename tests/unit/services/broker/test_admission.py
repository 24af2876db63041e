"""Admission: what a submit becomes, and what is frozen with it."""

import msgspec
import pytest

from services.broker import admission
from trainq.config import DataSettings, FolderSettings, Settings, TrainSettings
from trainq.errors import RequestReusedError, UsageError
from trainq.jobs import DuplicateSubmitted, JobSubmitted
from trainq.messages import Overrides, SubmitItem

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
