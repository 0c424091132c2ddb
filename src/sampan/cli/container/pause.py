"""`sampan pause`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.container.many import each

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        return await each(client, args.containers, lambda one: client.tasks.pause(one.id))
