"""`sampan restart`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.cli.container.many import each
from sampan.cli.container.start import start
from sampan.cli.container.stopping import stop

if TYPE_CHECKING:
    from sampan.metadata import Container

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--signal", default="", help="signal to send first")
    parser.add_argument(
        "-t",
        "--time",
        "--timeout",
        type=float,
        default=None,
        metavar="SECONDS",
        help="how long before SIGKILL",
    )
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client(warm=True) as client:

        async def again(one: Container) -> None:
            await stop(client, one, args.time, args.signal)
            await start(client, one)

        return await each(client, args.containers, again)
