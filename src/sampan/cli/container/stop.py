"""`sampan stop`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.container.many import each
from sampan.cli.container.stopping import stop

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--time",
        "--timeout",
        type=float,
        default=None,
        metavar="SECONDS",
        help="how long before SIGKILL",
    )
    parser.add_argument("-s", "--signal", default="", help="signal to send")
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        return await each(
            client, args.containers, lambda one: stop(client, one, args.time, args.signal)
        )
