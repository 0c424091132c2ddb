"""`sampan create`: make a container without starting it."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.container import flags
from sampan.cli.container.run import make
from sampan.cli.output import warn

__all__ = ["POSITIONAL", "VALUED", "configure", "run"]

POSITIONAL = 1
VALUED = flags.VALUED


def configure(parser: argparse.ArgumentParser) -> None:
    flags.add(parser)
    parser.add_argument("--pull", default="missing", choices=("always", "missing", "never"))
    parser.add_argument("--platform", default="")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        created = await make(client, args, flags.request_of(args), flags.labels_of(args))
        if created.warning:
            warn(created.warning)
        print(created.container.id)
    return 0
