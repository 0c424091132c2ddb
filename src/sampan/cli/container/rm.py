"""`sampan rm`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.container.many import each
from sampan.client.containers import remove

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill it if it runs")
    parser.add_argument("-v", "--volumes", action="store_true", help="its anonymous volumes, too")
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        return await each(
            client,
            args.containers,
            lambda one: remove(client, one, force=args.force, volumes=args.volumes),
            missing_ok=args.force,
        )
