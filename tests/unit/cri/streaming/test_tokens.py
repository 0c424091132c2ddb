"""Tokens: once, soon, and not too many."""

from __future__ import annotations

import pytest

from sampan.cri.streaming.tokens import PortForward, Tokens
from sampan.errors import ResourceExhausted


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_once() -> None:
    tokens = Tokens(60, 10)
    first, second = PortForward("a", ()), PortForward("b", (80,))
    one, two = tokens.add(first), tokens.add(second)
    assert one != two
    assert min(len(one), len(two)) >= 22
    assert tokens.take(two) is second
    assert tokens.take(two) is None
    assert tokens.take(one) is first
    assert tokens.take("") is None


def test_soon() -> None:
    clock = Clock()
    tokens = Tokens(60, 10, clock)
    old = tokens.add(PortForward("a", ()))
    clock.now = 59
    young = tokens.add(PortForward("b", ()))
    clock.now = 60
    assert tokens.take(old) is None
    assert tokens.take(young) is not None


def test_not_too_many() -> None:
    clock = Clock()
    tokens = Tokens(60, 2, clock)
    tokens.add(PortForward("a", ()))
    tokens.add(PortForward("b", ()))
    with pytest.raises(ResourceExhausted, match="2 requests"):
        tokens.add(PortForward("c", ()))
    clock.now = 60
    tokens.add(PortForward("d", ()))
    assert len(tokens) == 1
    tokens.clear()
    assert len(tokens) == 0
