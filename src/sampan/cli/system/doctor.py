"""`sampan doctor`: what this machine gives containers, and what to do about what it lacks."""

from __future__ import annotations

import argparse
import sys

from sampan.cli.app import App
from sampan.cli.output import print_json

__all__ = ["configure", "main"]

_MARKS = {"ok": "ok", "limited": "limited", "missing": "MISSING"}
_COLOURS = {"ok": "32", "limited": "33", "missing": "31"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="", choices=("", "json"), help="json, or a template")


def main(app: App, args: argparse.Namespace) -> int:
    import os

    from sampan.cli.system.checks import examine

    found = examine(app.settings)
    if args.format == "json":
        print_json([one._asdict() for one in found])
    else:
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        width = max(len(one.name) for one in found)
        topic = ""
        for one in found:
            if one.topic != topic:
                topic = one.topic
                print(f"{topic}:")
            mark = _MARKS[one.state]
            if coloured:
                mark = f"\x1b[{_COLOURS[one.state]}m{mark}\x1b[0m"
            print(f"  {one.name.ljust(width)}  {mark}  {one.detail}".rstrip())
            if one.advice:
                print(f"  {' ' * width}  -> {one.advice}")
    return 1 if any(one.state == "missing" and one.needed for one in found) else 0
