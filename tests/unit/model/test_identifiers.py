from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.model import identifiers


@pytest.mark.parametrize("name", ["a", "k8s.io", "a-b_c.d", "0", "x" * 76])
def test_good(name: str) -> None:
    assert identifiers.check(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-a", "a-", "a..b", "é", "x" * 77, "a\n", "\u0661"]
)
def test_bad(name: str) -> None:
    with pytest.raises(InvalidArgument, match="namespace"):
        identifiers.check(name, "namespace")
