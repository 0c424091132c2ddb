"""What a full disk leaves of a transfer, taken away at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from sampan.errors import ResourceExhausted, SampanError

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["tidied"]


@asynccontextmanager
async def tidied(client: Client) -> AsyncIterator[None]:
    """Collect garbage if the block ends for want of space.

    Blobs that are complete would else stay until the next collection, which an interrupted pull
    likes; on a full disk they are in everybody's way.
    """
    try:
        yield
    except ResourceExhausted:
        with suppress(SampanError):
            await client.collect_garbage()
        raise
