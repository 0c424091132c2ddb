"""`sampan wait`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.cli.container.many import each
from sampan.client.containers import view
from sampan.errors import NotFound

if TYPE_CHECKING:
    from sampan.metadata import Container

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:

        async def wait(one: Container) -> None:
            seen = await view(client, one)
            status = seen.exit_status
            if seen.state != "exited":
                try:
                    status = (await client.tasks.wait(one.id)).status
                except NotFound:
                    status = (await view(client, one)).exit_status
            print(status, flush=True)

        return await each(client, args.containers, wait, quiet=True)
