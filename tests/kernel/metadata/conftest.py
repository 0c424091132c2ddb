"""Lets tests import what they share as `tests.kernel.metadata...`, as mypy sees it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan import context
from sampan.events import Exchange
from sampan.metadata import Metadata

sys.path.insert(0, str(Path(__file__).parents[3]))


@pytest.fixture
async def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
async def metadata(tmp_path: Path, exchange: Exchange) -> AsyncIterator[Metadata]:
    from tests.kernel.metadata.folder_stores import FolderContent, FolderSnapshots

    async with await Metadata.open(
        tmp_path,
        content=FolderContent(tmp_path / "content"),
        snapshotters={"folder": FolderSnapshots(tmp_path / "folder")},
        events=exchange,
    ) as opened:
        with context.scope("ns"):
            yield opened
