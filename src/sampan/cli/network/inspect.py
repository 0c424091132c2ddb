"""`sampan network inspect`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.output import print_found

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", default="", metavar="TEMPLATE", help="json, or a template"
    )
    parser.add_argument("networks", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        store = client.network_store

        async def one(name: str) -> dict[str, object]:
            found = await store.inspect(name)
            pairs = zip(
                found.subnets, [*found.gateways, *([""] * len(found.subnets))], strict=False
            )
            return {
                "Name": found.name,
                "Driver": found.driver,
                "Default": found.default,
                "Internal": found.internal,
                "Bridge": found.bridge,
                "IPAM": {"Config": [{"Subnet": net, "Gateway": gate} for net, gate in pairs]},
                "Labels": dict(found.labels),
                "Containers": list(await store.members(found.name)),
                "File": found.path,
                "Config": dict(found.config),
            }

        return await print_found(args.networks, one, args.format)
