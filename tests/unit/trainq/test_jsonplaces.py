"""A path leads to the column at which its value starts."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainq.jsonplaces import RowPath, column_of, path_name


@pytest.mark.parametrize(("text", "path", "starts"), [
    ('{"a": 1}', ("a",), "1}"),
    ('  {"x":"[{","a" :\t[ {}, {"b":null}]}', ("a", 1, "b"), "null"),
    ('{"é😀": 1, "a": "x"}', ("a",), '"x"'),
    ('{"a": 1, "a": 2}', ("a",), "2}"),
    ('{"a": 1}', ("b",), "{"),
    ('{"a": [1]}', ("a", 7), "[1]"),
    ('[[], 3]', (1,), "3]"),
    ('{"\\u0061": 5}', ("a",), "5}"),
    ('{"n": ' + "1" * 300 + ', "a": true}', ("a",), "true"),
    ('{"a": ' + "[" * 900 + "]" * 900 + ', "b": 1}', ("b",), "1}"),
])
def test_the_column_is_where_the_value_starts(text: str, path: RowPath, starts: str) -> None:
    assert text[column_of(text, path) - 1:].startswith(starts)


def test_what_nests_too_deep_has_the_place_of_what_contains_it() -> None:
    text = '{"a": ' + "[" * 5000 + "]" * 5000 + ', "b": 1}'
    assert column_of(text, ("b",)) in (1, text.index("1}") + 1)


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12), st.data())
def test_any_path_of_any_value_leads_to_it(value: object, data: st.DataObject) -> None:
    text = orjson.dumps(value).decode()
    path: list[str | int] = []
    target = value
    while isinstance(target, list | dict) and target:
        step = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        path.append(step)
        target = target[step]
    assert text[column_of(text, tuple(path)) - 1:].startswith(orjson.dumps(target).decode())


def test_paths_are_written_as_people_write_them() -> None:
    assert path_name(("messages", 1, "content")) == "messages[1].content"
    assert path_name(()) == ""
