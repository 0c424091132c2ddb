"""`sampan logout`: forget the credentials for a registry."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.concurrency import to_thread

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("registry", nargs="?", default="docker.io")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.distribution.registry.login import forget

    if await to_thread(forget, args.registry):
        print(f"Removing login credentials for {args.registry}")
    else:
        print(f"Not logged in to {args.registry}")
    return 0
