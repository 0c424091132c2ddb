"""The same to several containers: each is tried, and each failure told."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from sampan.client.containers import find
from sampan.errors import SampanError

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container

__all__ = ["each"]


async def each(
    client: Client,
    references: Iterable[str],
    do: Callable[[Container], Awaitable[object]],
    *,
    missing_ok: bool = False,
    quiet: bool = False,
) -> int:
    """Do something to each container, print what the user called it; return the exit status."""
    status = 0
    for reference in references:
        try:
            await do(await find(client, reference))
        except SampanError as err:
            if missing_ok and str(err).startswith("no such container"):
                continue
            sys.stderr.write(f"sampan: {' '.join(str(err).split())}\n")
            status = 1
        else:
            if not quiet:
                print(reference, flush=True)
    return status
