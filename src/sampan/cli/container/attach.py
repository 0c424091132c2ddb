"""`sampan attach`: the output of a running container, from now on."""

from __future__ import annotations

import argparse

from sampan.cli.app import App, Quit
from sampan.cli.container.logs import Follower, follow
from sampan.cli.container.session import Session
from sampan.cli.streams import Streams
from sampan.client.containers import Folder, find, view
from sampan.errors import NotFound

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-stdin", action="store_true", help="leave our stdin out")
    parser.add_argument(
        "--sig-proxy", default="true", choices=("true", "false"), help="pass signals"
    )
    parser.add_argument("container")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        container = await find(client, args.container)
        seen = await view(client, container)
        if seen.state not in ("running", "paused") or seen.task is None:
            raise Quit(1, f"container {seen.name} is {seen.state}, not running: start it first")
        folder = Folder(client, container.id)
        stdio = seen.task.stdio
        if stdio.stdout.startswith("/"):
            stdin = bool(stdio.stdin) and not args.no_stdin
            streams = Streams(folder.path / "io", stdin=stdin, terminal=stdio.terminal)
            session = Session(
                client,
                container.id,
                streams,
                log=folder.log,
                terminal=stdio.terminal,
                proxy=args.sig_proxy == "true",
            )
            session.connect()
            ended = await session.finish()
            return ended.status if ended is not None else 0
        follower = Follower(folder.log)
        follower.skip()
        await follow(client, container, follower)
        try:
            return (await client.tasks.wait(container.id)).status
        except NotFound:
            return (await view(client, container)).exit_status
