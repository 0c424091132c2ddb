"""Tables against types: where a message points, and what is unknown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sampan.engine.checking import builtins_of, converted, dotted, unknown_keys
from sampan.errors import InvalidArgument
from sampan.model.durations import Duration


class Inner(msgspec.Struct, frozen=True):
    a: int = 0
    wait: Duration = Duration(1)


class Outer(msgspec.Struct, frozen=True):
    inner: Inner = Inner()
    many: dict[str, Inner] = {}
    maybe: Inner | None = None
    free: dict[str, Any] = {}


def test_a_message_ends_in_the_key() -> None:
    with pytest.raises(InvalidArgument) as caught:
        converted({"inner": {"a": "x"}}, Outer, source="/f", at=("io.x.v1.y",))
    assert str(caught.value) == (
        'config file /f is refused: plugins."io.x.v1.y".inner.a: Expected `int`, got `str`'
    )


@pytest.mark.parametrize(("value", "seconds"), [("20ms", 0.02), (0, 0.0), (10**9, 1.0), (0.5, 0.5)])
def test_durations_are_text_or_gos_nanoseconds(value: object, seconds: float) -> None:
    found = converted({"wait": value}, Inner, source="/f")
    assert found.wait == seconds
    assert builtins_of(found)["wait"] == str(Duration(seconds))


@pytest.mark.parametrize("value", [True, [], "soon"])
def test_other_durations_are_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"refused: wait: "):
        converted({"wait": value}, Inner, source="/f")


def test_unknown_keys_are_found_at_every_depth() -> None:
    table = {
        "inner": {"b": 1},
        "many": {"x": {"a": 1, "c": 2}},
        "maybe": {"d": 3},
        "free": {"anything": 1},
        "e": 4,
    }
    assert [dotted(path) for path in unknown_keys(table, Outer, ("plugins", "io.x"))] == [
        'plugins."io.x".inner.b',
        'plugins."io.x".many.x.c',
        'plugins."io.x".maybe.d',
        'plugins."io.x".e',
    ]
