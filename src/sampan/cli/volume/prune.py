"""`sampan volume prune`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import confirm

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    parser.add_argument("-a", "--all", action="store_true", help="those with names, too")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.volumes import Volumes

    kind = "all" if args.all else "all anonymous"
    if not confirm(f"Remove {kind} volumes that no container uses?", force=args.force):
        return 1
    async with app.client() as client:
        for name in await Volumes(client).prune(all=args.all):
            print(name)
    return 0
