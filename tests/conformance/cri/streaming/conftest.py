"""A streaming server on real processes, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sampan.testing.streaming import Clients, serving


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with serving(90) as made:
        yield made
