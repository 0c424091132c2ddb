"""`sampan volume ls`."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.cli.listing import add, filters_of, matches, show

__all__ = ["configure", "run"]

_FILTERS = ("name", "label", "dangling")


def configure(parser: argparse.ArgumentParser) -> None:
    add(parser, *_FILTERS)


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.volumes import Volumes

    wanted = filters_of(args.filter, _FILTERS)
    rows = []
    async with app.client() as client:
        store = Volumes(client)
        for one in await store.list():
            if "name" in wanted and not any(text in one.name for text in wanted["name"]):
                continue
            if not matches(one.labels, wanted.get("label", ())):
                continue
            if "dangling" in wanted:
                unused = not await store.users(one.name)
                if unused != (wanted["dangling"][-1].lower() in ("true", "1")):
                    continue
            labels = ",".join(f"{key}={value}" for key, value in one.labels.items())
            rows.append(
                {
                    "Driver": "local",
                    "Name": one.name,
                    "Mountpoint": str(one.path),
                    "Scope": "local",
                    "Labels": labels,
                }
            )
    show(args, rows, {"Driver": "DRIVER", "Name": "VOLUME NAME"}, key="Name")
    return 0
