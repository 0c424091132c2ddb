"""`sampan events`: show events as they happen in the daemon."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.errors import Unimplemented

__all__ = ["configure", "main"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--filter", action="append", default=[], help="only what matches")


def main(app: App, args: argparse.Namespace) -> int:
    del args
    # In process there is nobody to hear from: each command's events end with it.
    raise Unimplemented(
        f"events need the daemon: start sampand, then `ctr -a {app.settings.address} events`"
    )
