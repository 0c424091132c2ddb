"""What a verb is given: settings, and a client when it asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.engine.config import Settings
    from sampan.sandbox.clients import Client as Library

__all__ = ["App", "Quit"]


class Quit(Exception):
    """Ends the program with a status, and a sentence unless it is empty."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


class App:
    """The program as its verbs see it."""

    def __init__(self, settings: Settings, namespace: str) -> None:
        self.settings = settings
        self.namespace = namespace

    @asynccontextmanager
    async def client(self, *, warm: bool = False) -> AsyncIterator[Client]:
        """Open the client; `warm` starts the zygote beside, for verbs that will need it."""
        from sampan.client import connect

        async with connect(self.settings, namespace=self.namespace, warm=warm) as client:
            yield client

    @asynccontextmanager
    async def library(self) -> AsyncIterator[Library]:
        """Open the library's client, for verbs that work on a container's files."""
        from sampan import context
        from sampan.sandbox.clients import Client

        with context.scope(self.namespace):
            async with Client(self.settings, namespace=self.namespace) as client:
                yield client
