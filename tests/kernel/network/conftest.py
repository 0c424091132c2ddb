"""A host of one's own for each test, its plugins built in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.testing.networks import Host, private_host


@pytest.fixture
def own_network() -> Iterator[None]:
    with private_host():
        yield


@pytest.fixture
async def host(own_network: None, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    yield made
    await made.close()
