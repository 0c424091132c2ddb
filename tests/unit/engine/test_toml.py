"""TOML: what we write is read back; what is imported is merged by containerd's rules."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import toml
from sampan.errors import InvalidArgument, PermissionDenied

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT | st.floats(allow_nan=False)
TABLES = st.recursive(
    st.dictionaries(TEXT, SCALARS | st.lists(SCALARS, max_size=3), max_size=4),
    lambda inner: st.dictionaries(TEXT, inner | SCALARS, max_size=4),
    max_leaves=12,
)


@given(TABLES)
def test_what_is_written_is_read_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml.dumps(table)) == table


def test_merging() -> None:
    into: dict[str, Any] = {
        "root": "/a",
        "state": "/s",
        "oom_score": 5,
        "disabled_plugins": ["a.b"],
        "timeouts": {"x": "1s"},
        "proxy_plugins": {"p": {"type": "snapshot", "address": "/1"}},
        "plugins": {"u": {"list": [1, 2], "keep": 1, "sub": {"a": True, "b": 1}}},
    }
    toml.merge(
        into,
        {
            "root": "/b",
            "state": "",
            "oom_score": 0,
            "disabled_plugins": ["a.b", "c.d"],
            "timeouts": {"y": "2s"},
            "proxy_plugins": {"p": {"address": "/2"}},
            "plugins": {"u": {"list": [3], "sub": {"a": False}}, "v": {}},
        },
    )
    assert into == {
        "root": "/b",
        "state": "/s",
        "oom_score": 5,
        "disabled_plugins": ["a.b", "c.d"],
        "timeouts": {"x": "1s", "y": "2s"},
        "proxy_plugins": {"p": {"address": "/2"}},
        "plugins": {"u": {"list": [3], "keep": 1, "sub": {"a": False, "b": 1}}, "v": {}},
    }


def test_imports_may_form_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('imports = ["b.toml"]\n')
    (tmp_path / "b.toml").write_text('imports = ["a.toml", "none-*.toml"]\nx = 1\n')
    main = tmp_path / "a.toml"
    found = list(toml.imported(main, toml.read(main)))
    assert [path.name for path, _ in found] == ["b.toml"]


def test_a_named_import_must_exist(tmp_path: Path) -> None:
    main = tmp_path / "a.toml"
    main.write_text('imports = ["none.toml"]\n')
    with pytest.raises(InvalidArgument, match=r"none\.toml does not exist"):
        list(toml.imported(main, toml.read(main)))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="not UTF-8: byte 4"):
        toml.loads(b"a = \xff", tmp_path / "c")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises((InvalidArgument, PermissionDenied), match="cannot be read"):
        toml.read(tmp_path)
