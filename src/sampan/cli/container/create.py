"""`sampan create`: make a container without starting it."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.container import flags
from sampan.cli.container.run import make

__all__ = ["POSITIONAL", "configure", "run"]

POSITIONAL = 1


def configure(parser: argparse.ArgumentParser) -> None:
    flags.add(parser)


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        created = await make(client, args, flags.request_of(args), flags.labels_of(args))
        print(created.container.id)
    return 0
