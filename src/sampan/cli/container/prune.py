"""`sampan container prune`: remove all containers that do not run."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import confirm, each_name

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.containers import find, remove, views

    if not confirm("Remove all stopped containers?", force=args.force):
        return 1
    async with app.client() as client:

        async def gone(id: str) -> None:
            await remove(client, await find(client, id), volumes=True)

        stopped = [one for one in await views(client) if one.state in ("exited", "created")]
        return await each_name([one.container.id for one in stopped], gone)
