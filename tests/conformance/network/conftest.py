"""A host of one's own for each test, its plugins served by the originals and by us."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.testing.networks import SERVED_BY, Host, need_originals, private_host


@pytest.fixture
def own_network() -> Iterator[None]:
    with private_host():
        yield


@pytest.fixture(params=SERVED_BY)
async def host(
    own_network: None, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Host]:
    if request.param == "originals":
        need_originals()
    made = Host(tmp_path, request.param)
    yield made
    await made.close()
