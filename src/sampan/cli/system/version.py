"""`sampan version`."""

from __future__ import annotations

import argparse
import os
import platform

from sampan import __version__
from sampan.cli.app import App

__all__ = ["configure", "main"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", default="", metavar="TEMPLATE", help="json, or a template"
    )


def main(app: App, args: argparse.Namespace) -> int:
    del app
    kernel = os.uname()
    values = {
        "Version": __version__,
        "Python": platform.python_version(),
        "Os": "linux",
        "Arch": kernel.machine,
        "KernelVersion": kernel.release,
    }
    if args.format:
        from sampan.cli.template import render

        print(render(args.format, values))
        return 0
    print(f"sampan {__version__} (Python {values['Python']}, Linux {kernel.release})")
    return 0
