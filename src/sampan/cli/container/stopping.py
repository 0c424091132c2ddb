"""Ending a container politely: its stop signal, some seconds, SIGKILL."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from sampan.cli.container.signals import parse
from sampan.client.containers import Folder, remove, view
from sampan.client.networking import release
from sampan.concurrency import shielded
from sampan.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container

__all__ = ["settle", "stop"]

_DEFAULT_S = 10


async def stop(
    client: Client, container: Container, timeout_s: float | None = None, word: str = ""
) -> None:
    """End the container's task within `timeout_s` and a moment; one that does not run is fine.

    None is what the container was made with, or ten seconds; less than 0 is no limit.
    """
    if timeout_s is None:
        timeout_s = float(container.labels.get("sampan/stop-timeout") or _DEFAULT_S)
    seen = await view(client, container)
    if seen.state == "paused":
        await client.tasks.resume(container.id)
    elif seen.state != "running":
        return
    number = parse(word or container.labels.get("sampan/stop-signal", "") or "SIGTERM")
    try:
        await client.tasks.kill(container.id, number)
        try:
            async with asyncio.timeout(timeout_s if timeout_s >= 0 else None):
                await client.tasks.wait(container.id)
        except TimeoutError:
            await client.tasks.kill(container.id, signal.SIGKILL, all=True)
            async with asyncio.timeout(20):
                await client.tasks.wait(container.id)
    except (NotFound, FailedPrecondition):
        pass
    await settle(client, container)


async def settle(client: Client, container: Container) -> None:
    """After a task's end: remember the status and free the shim; with --rm free everything.

    Whoever is attached to the container may do the same: the first one wins.
    """
    if container.labels.get("sampan/rm") == "true":
        await shielded(30, _gone(client, container))
        return
    try:
        ended = await shielded(30, client.tasks.delete(container.id))
        Folder(client, container.id).write_exit(ended)
        await shielded(30, release(client, container))
    except (NotFound, FailedPrecondition, FileNotFoundError):
        return


async def _gone(client: Client, container: Container) -> None:
    try:
        await remove(client, container, force=True, volumes=True)
    except NotFound:
        return
