"""The error tree: drawn as it is, and every class in every table of codes that exists."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from sampan import errors
from sampan.errors import SampanError


def below(error: type[SampanError]) -> Iterator[type[SampanError]]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


CLASSES = list(dict.fromkeys(below(SampanError)))


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_it_is_drawn_and_exported(error: type[SampanError]) -> None:
    assert error.__name__ in errors.__all__
    assert f"── {error.__name__}" in (errors.__doc__ or "")
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_it_has_a_status_code(error: type[SampanError]) -> None:
    """And the code leads back to the class, so that a client raises what the server raised."""
    if importlib.util.find_spec("sampan.rpc") is None:
        pytest.skip("no room rpc")
    from sampan.rpc import status

    code = status.code_of(error("tried this on that"))
    back = status.from_status(code, "tried this on that")
    assert isinstance(back, SampanError)
    assert isinstance(error("x"), type(back))
