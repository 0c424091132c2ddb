"""`sampan port`: which ports of the host lead into a container."""

from __future__ import annotations

import argparse

from sampan.cli.app import App, Quit
from sampan.client.containers import Folder, find
from sampan.client.networking import given

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container")
    parser.add_argument("port", nargs="?", default="", metavar="PORT[/PROTOCOL]")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        container = await find(client, args.container)
        ports = given(Folder(client, container.id))["ports"]
    number, _, protocol = args.port.partition("/")
    shown = 0
    for port in ports:
        inside = f"{port['container_port']}/{port['protocol']}"
        if args.port and inside != f"{number}/{protocol or 'tcp'}":
            continue
        where = [port["host_ip"]] if port["host_ip"] else ["0.0.0.0", "[::]"]  # noqa: S104
        for address in where:
            text = f"{address}:{port['host_port']}"
            print(text if args.port else f"{inside} -> {text}")
        shown += 1
    if args.port and not shown:
        raise Quit(1, f"no public port {args.port!r} published for {args.container}")
    return 0
