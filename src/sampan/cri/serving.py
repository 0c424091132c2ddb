"""The CRI in a daemon: opened with its engine, closed when its background work is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sampan.concurrency import shielded
from sampan.cri.core import open_cri

if TYPE_CHECKING:
    from sampan.engine import Engine

__all__ = ["handlers"]

_CLOSE_S = 30.0


async def handlers(engine: Engine) -> list[Any]:
    """Return the CRI's gRPC services on an engine.

    Raises:
      InvalidArgument: its configuration is wrong.
    """
    cri = await open_cri(engine)

    async def until_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await shielded(_CLOSE_S, cri.close())

    engine.in_background(until_the_end)
    return list(cri.services())
