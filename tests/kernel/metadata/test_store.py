"""Metadata as a whole: what is not configured says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.metadata import Metadata


async def test_what_is_not_loaded(tmp_path: Path) -> None:
    async with await Metadata.open(tmp_path) as metadata:
        with pytest.raises(InvalidArgument, match="snapshotter not loaded: x"):
            metadata.snapshotter("x")
        with pytest.raises(InvalidArgument, match="no content store"):
            _ = metadata.content
        assert metadata.snapshotters == {}
        assert (await metadata.collect()).removed == 0
