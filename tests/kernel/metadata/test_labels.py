"""Labels: their limit, and field masks."""

from __future__ import annotations

import pytest
from tests.kernel.metadata.objects import TARGET

from sampan.errors import (
    InvalidArgument,
)
from sampan.metadata import (
    Image,
    Metadata,
)


async def test_label_limit(metadata: Metadata) -> None:
    await metadata.images.create(Image(name="i", target=TARGET, labels={"k" * 96: "v" * 4000}))
    with pytest.raises(InvalidArgument, match="greater than maximum size"):
        await metadata.images.create(Image(name="j", target=TARGET, labels={"k" * 97: "v" * 4000}))
