"""`sampan start`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sampan.cli.app import App, Quit
from sampan.cli.container.many import each
from sampan.cli.container.run import StartError, attached, detached
from sampan.cli.exit import of_start
from sampan.client.containers import find, view
from sampan.client.creation import root_mounts

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container

__all__ = ["configure", "run", "start"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--attach", action="store_true", help="be its stdout and stderr")
    parser.add_argument("-i", "--interactive", action="store_true", help="be its stdin, too")
    parser.add_argument("containers", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client(warm=True) as client:
        if not args.attach and not args.interactive:
            return await each(client, args.containers, lambda one: start(client, one))
        if len(args.containers) > 1:
            raise Quit(1, "start: attach to one container at a time")
        container = await find(client, args.containers[0])
        if (await view(client, container)).state in ("running", "paused"):
            raise Quit(1, "start: it runs already: use attach")
        try:
            return await attached(
                client,
                container,
                await root_mounts(client, container),
                stdin=args.interactive,
                terminal=container.labels.get("sampan/tty") == "true",
                proxy=True,
                remove=container.labels.get("sampan/rm") == "true",
            )
        except StartError as err:
            raise Quit(of_start(err.cause), str(err.cause)) from err


async def start(client: Client, container: Container) -> None:
    """Start a container, detached; one that runs is left alone."""
    if (await view(client, container)).state in ("running", "paused"):
        return
    try:
        await detached(client, container, await root_mounts(client, container))
    except StartError as err:
        raise err.cause from err
