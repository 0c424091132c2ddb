"""Several differs as one: Unimplemented passes the question on, anything else is the answer."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.engine.differs import Ordered
from sampan.errors import ResourceExhausted, Unimplemented
from sampan.model.descriptor import OCI_LAYER, Descriptor
from sampan.model.digest import of_bytes

LAYER = Descriptor(media_type=OCI_LAYER, digest=of_bytes(b"l"), size=1)


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def apply(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    compare = apply


async def test_order() -> None:
    passing, good, bad = (
        Answers(Unimplemented("no")),
        Answers(LAYER),
        Answers(ResourceExhausted("")),
    )
    assert await Ordered([passing, good, bad]).apply(LAYER, []) is LAYER
    assert await Ordered([passing, good]).compare([], []) is LAYER
    with pytest.raises(ResourceExhausted):
        await Ordered([passing, bad, good]).apply(LAYER, [])
    with pytest.raises(Unimplemented, match="no differ applies"):
        await Ordered([]).apply(LAYER, [])
    with pytest.raises(Unimplemented, match="no"):
        await Ordered([passing]).compare([], [])
