"""Clients that come and go in every rude way: nothing is left, and memory stays where it was.

CVE-2022-31030, CVE-2022-23471 and CVE-2025-64329 were leaks of this kind.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from typing import Any

from sampan.cri.streaming.channels import Channels, WebSocket
from sampan.cri.streaming.inbox import Inbox
from sampan.cri.streaming.session import Session, Stream
from sampan.cri.streaming.wires import SocketWire
from sampan.testing.streaming import until

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
CLIENTS = 10_000 if SOAK else 240
AT_ONCE = 12


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def left_over() -> list[str]:
    """Return the kinds of what should have gone with its connection."""
    gc.collect()
    kinds = (Session, Stream, Inbox, Channels, WebSocket, SocketWire)
    return [type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds)]


async def rude(clients: Any, choose: random.Random) -> None:
    """Attach or exec, do some of it, and drop the connection at some point."""
    tty = choose.random() < 0.3
    command = choose.choice((["cat"], ["sleep", "1000"], ["sh", "-c", "echo x; exit 2"]))
    if choose.random() < 0.5:
        url = clients.server.exec_url("c", command, tty=tty, stdin=True, stdout=True)
    else:
        url = clients.server.attach_url("c", tty=tty, stdin=True, stdout=True)
    if choose.random() < 0.5:
        client = await clients.spdy(url)
        names = ["error", "stdin", "stdout", *(["resize"] if tty else [])]
        await client.open(*names[: choose.randint(0, len(names))])
        if "stdin" in client.streams and choose.random() < 0.7:
            await client.streams["stdin"].write(bytes(choose.randint(1, 100_000)))
    else:
        client = await clients.websocket(url, choose.choice(("v5.channel.k8s.io", "")))
        if choose.random() < 0.7:
            await client.send(0, bytes(choose.randint(1, 100_000)))
        if choose.random() < 0.3:
            await client.socket.close()
    await client.close()
    clients.forget(client)


async def test_attach_and_drop(clients: Any) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    choose = random.Random(seed)

    async def some(count: int) -> None:
        for _ in range(count):
            await rude(clients, choose)
            # Ending a process takes longer than starting one: no backlog, which costs memory.
            await until(lambda: clients.server.connections < 4 * AT_ONCE)

    async def many(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some(count // AT_ONCE))
        await until(lambda: not clients.backend.running and not clients.server.connections)

    await many(AT_ONCE * (60 if SOAK else 8))  # what is allocated once, and fragments
    before = resident_bytes()
    await many(CLIENTS)
    grown = resident_bytes() - before
    await until(lambda: not left_over())
    assert not SOAK or grown < 16 << 20
