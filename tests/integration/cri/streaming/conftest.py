"""A streaming server on real processes, and clients of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from sampan.testing.streaming import Clients, serving


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with serving(600 if os.environ.get("SAMPAN_SOAK") else 40) as made:
        yield made
