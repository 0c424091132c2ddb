"""docs/reference/runtime-spec.md names tests; they must exist."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
PAGE = TOP / "docs/reference/runtime-spec.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())))


def test_there_are_many() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_exists(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (TOP / path).read_text(), re.MULTILINE)


def test_every_row_has_one() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| requirement")]
    assert [row for row in rows if "::" not in row] == []
