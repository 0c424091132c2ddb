"""`sampan network create`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.errors import InvalidArgument

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--driver", default="bridge", metavar="bridge", help="kind")
    parser.add_argument(
        "--subnet", action="append", default=[], metavar="CIDR", help="addresses of the network"
    )
    parser.add_argument(
        "--gateway",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address of the host on it",
    )
    parser.add_argument(
        "--ip-range", default="", metavar="CIDR", help="where addresses of containers come from"
    )
    parser.add_argument("--ipv6", action="store_true", help="IPv6, too")
    parser.add_argument("--internal", action="store_true", help="no way out to the world")
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="a label of the container"
    )
    parser.add_argument(
        "-o", "--opt", action="append", default=[], metavar="mtu=1400", help="option of the driver"
    )
    parser.add_argument("name")


async def run(app: App, args: argparse.Namespace) -> int:
    if args.driver != "bridge":
        raise InvalidArgument(f"network driver {args.driver!r}: write a CNI configuration for it")
    mtu = 0
    for text in args.opt:
        key, _, value = text.partition("=")
        if key not in ("mtu", "com.docker.network.driver.mtu") or not value.isdecimal():
            raise InvalidArgument(f"network option {text!r}: there is mtu=NUMBER")
        mtu = int(value)
    async with app.client() as client:
        made = await client.network_store.create(
            args.name,
            subnets=args.subnet,
            gateways=args.gateway,
            ip_range=args.ip_range,
            ipv6=args.ipv6,
            internal=args.internal,
            mtu=mtu,
            labels=dict(text.partition("=")[::2] for text in args.label),
        )
    print(made.name)
    return 0
