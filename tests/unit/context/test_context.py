from __future__ import annotations

import pytest

from sampan import context
from sampan.errors import FailedPrecondition


def test_scopes_nest_and_end() -> None:
    with pytest.raises(FailedPrecondition, match="namespace is required"):
        context.namespace()
    with context.scope("a", lease="l"):
        with context.scope("b"):
            assert (context.namespace(), context.lease()) == ("b", "l")
        with context.scope(lease=""):
            assert (context.namespace(), context.lease()) == ("a", None)
        assert context.lease() == "l"
    assert context.namespace_or_none() is None
