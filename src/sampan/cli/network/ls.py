"""`sampan network ls`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.listing import add, filters_of, matches, show

__all__ = ["configure", "run"]

_FILTERS = ("name", "driver", "label")


def configure(parser: argparse.ArgumentParser) -> None:
    add(parser, *_FILTERS)


async def run(app: App, args: argparse.Namespace) -> int:
    wanted = filters_of(args.filter, _FILTERS)
    async with app.client() as client:
        found = await client.network_store.list()
    rows = []
    for one in found:
        if "name" in wanted and not any(text in one.name for text in wanted["name"]):
            continue
        if "driver" in wanted and one.driver not in wanted["driver"]:
            continue
        if matches(one.labels, wanted.get("label", ())):
            rows.append(
                {
                    "Name": one.name,
                    "Driver": one.driver,
                    "Subnets": ",".join(one.subnets),
                    "Default": one.default,
                    "Internal": one.internal,
                    "File": one.path,
                    "Labels": ",".join(f"{key}={value}" for key, value in one.labels.items()),
                }
            )
    columns = {"Name": "NAME", "Driver": "DRIVER", "Subnets": "SUBNETS", "File": "FILE"}
    show(args, rows, columns, key="Name")
    return 0
