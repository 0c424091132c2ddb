"""`sampan network prune`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import confirm

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")


async def run(app: App, args: argparse.Namespace) -> int:
    if not confirm("Remove all networks of ours that no container uses?", force=args.force):
        return 1
    async with app.client() as client:
        store = client.network_store
        for one in await store.list():
            if one.ours and not one.default and not await store.members(one.name):
                await store.remove(one.name)
                print(one.name)
    return 0
