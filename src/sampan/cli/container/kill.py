"""`sampan kill`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.cli.container.many import each
from sampan.cli.container.signals import parse
from sampan.client.containers import view
from sampan.errors import FailedPrecondition

if TYPE_CHECKING:
    from sampan.metadata import Container

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--signal", default="SIGKILL", help="signal to send")
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    number = parse(args.signal)
    async with app.client() as client:

        async def kill(one: Container) -> None:
            if (await view(client, one)).state not in ("running", "paused"):
                raise FailedPrecondition(f"container {one.id[:12]} is not running")
            await client.tasks.kill(one.id, number)

        return await each(client, args.containers, kill)
