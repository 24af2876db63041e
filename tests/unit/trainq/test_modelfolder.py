"""What the preparer takes from the model's folder, and how it says what is missing there."""

from pathlib import Path

import orjson
import pytest

from trainq import builtin
from trainq.errors import InputError
from trainq.modelfolder import context_tokens, model_folder


def test_an_empty_path_means_the_builtin_model() -> None:
    assert model_folder("") == builtin.folder()
    assert context_tokens(model_folder("")) == builtin.CONTEXT_TOKENS


def test_the_context_is_what_the_model_s_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(orjson.dumps({"max_position_embeddings": 77}))
    assert model_folder(str(tmp_path)) == tmp_path
    assert context_tokens(tmp_path) == 77


@pytest.mark.parametrize(("content", "reason"), [
    (None, "FileNotFoundError"), (b"{", "JSONDecodeError"), (b"[]", "TypeError"), (b"{}", "KeyError"),
    (b'{"max_position_embeddings": null}', "None is no number"),
    (b'{"max_position_embeddings": true}', "True is no number"),
    (b'{"max_position_embeddings": 0}', "0 is no number"),
    (b'{"max_position_embeddings": "many"}', "'many' is no number"),
])
def test_a_context_that_is_not_known_is_named_with_its_mend(tmp_path: Path, content: bytes | None,
                                                             reason: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        context_tokens(tmp_path)
    assert caught.value.file == str(tmp_path / "config.json")
    assert caught.value.field == "max_position_embeddings"
    assert "[model] path" in caught.value.mend
