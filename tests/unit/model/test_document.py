"""JSON without `json`, compared with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.model.runtime.document import dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_both_ways_as_json_does(value: Any) -> None:
    assert dumps(value) == json.dumps(value)
    assert dumps(value, "  ") == json.dumps(value, indent=2)
    assert loads(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize(
    "text", ["", " ", "{", '{"a": }', "[1,]", "1 2", "nul", "NaN", "-Infinity", '"\n"', "\x0b1"]
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        loads(text)


def test_bytes_must_be_utf_8() -> None:
    assert loads('"ä"'.encode()) == "ä"
    with pytest.raises(ValueError, match="utf-8"):
        loads(b'"\xff"')


def test_too_deep() -> None:
    with pytest.raises(RecursionError):
        loads("[" * 200_000)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_has_no_form(value: object) -> None:
    with pytest.raises(TypeError):
        dumps(value)
    with pytest.raises(TypeError):
        dumps({"a": value}, "\t")
