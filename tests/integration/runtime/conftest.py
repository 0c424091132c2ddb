"""A runtime of the test's own, with either kind of shim."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan import context
from sampan.events import Exchange
from sampan.model.opaque import Opaque
from sampan.rpc.messages.runc import Options
from sampan.runtime import LocalTasks, Shims
from sampan.runtime.publish import publishing
from sampan.testing import require, unique_name

RUNC = "io.containerd.runc.v2"


class Room:
    """What an engine has of the runtime: as a daemon, or as a program without one."""

    def __init__(self, state: Path, rootfs: Path, shims: Shims, exchange: Exchange) -> None:
        self.state = state
        self.rootfs = rootfs
        self.shims = shims
        self.exchange = exchange
        self.tasks: LocalTasks
        self.runtime = ""
        self.cgroup = unique_name("tasks")
        self._numbers = itertools.count()

    def spec(self, *args: str) -> bytes:
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        return json.dumps(
            {
                "ociVersion": "1.0.2",
                "process": process,
                "root": {"path": str(self.rootfs)},
                "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
                "linux": {
                    "cgroupsPath": f"/{self.cgroup}-{next(self._numbers)}",
                    "namespaces": [{"type": one} for one in ("pid", "ipc", "uts", "mount")],
                },
            }
        ).encode()

    async def create(self, id: str, *args: str, **more: Any) -> int:
        # Peers on the same machine use the default root, too.
        options = Opaque("containerd.runc.v1.Options", bytes(Options(root=str(self.state / "r"))))
        spec = self.spec(*args)
        return await self.tasks.create(id, spec=spec, runtime=self.runtime, options=options, **more)

    async def run(self, id: str, *args: str, **more: Any) -> int:
        await self.create(id, *args, **more)
        return await self.tasks.start(id)

    def shim_pid(self, id: str) -> int:
        path = self.state / "io.containerd.runtime.v2.task/default" / id / "shim.pid"
        return int(path.read_text().split()[0])


Open = Callable[..., Any]


@pytest.fixture(params=["ours", "foreign"])
def kind(request: pytest.FixtureRequest) -> str:
    """Whose shim: ours through the zygote, or Debian's containerd-shim-runc-v2 by exec."""
    require("root", "busybox")
    if request.param == "foreign":
        require("containerd-shim-runc-v2", "runc")
    name: str = request.param
    return name


@pytest.fixture
def open_room(kind: str, state: Path, rootfs: Path) -> Open:
    """A function that opens a room on the test's state folder; `daemon` says in which way."""

    @asynccontextmanager
    async def open_one(*, daemon: bool = True) -> AsyncIterator[Room]:
        exchange = Exchange()
        # Peers are told apart by uid alone, so the folder is what protects the socket.
        socket = str(state / "d.sock.ttrpc")
        foreign = (RUNC,) if kind == "foreign" else ()
        shims = Shims(state, publish=socket, foreign_runtimes=foreign)
        room = Room(state, rootfs, shims, exchange)
        room.runtime = RUNC
        room.tasks = LocalTasks(state, shims, exchange, shims_publish=daemon)
        server = await publishing(exchange, socket) if daemon else None
        try:
            with context.scope("default"):
                yield room
        finally:
            await room.tasks.close()
            await shims.close()
            if server is not None:
                await server.close()

    return open_one


@pytest.fixture
async def room(open_room: Open) -> AsyncIterator[Room]:
    """A daemon's room; the test enters the namespace itself by `context.scope`."""
    async with open_room() as opened:
        yield opened
