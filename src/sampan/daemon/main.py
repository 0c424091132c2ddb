"""sampand: arguments and signals around an engine and its servers.

    sampand [--root DIR] [--state DIR] [--address SOCK] [--config FILE] [--hosts-dir DIR]
            [--log-level LEVEL]                 serve
    sampand [--config FILE] config default|dump|migrate

SIGTERM and SIGINT stop the daemon; containers run on. SIGHUP reads the configuration again.
SIGUSR1 writes all stacks and the states of all tasks to the log.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sampan import __version__
from sampan.daemon import logs
from sampan.engine import Settings, resolve
from sampan.engine.config import NAMES
from sampan.errors import SampanError

__all__ = ["main"]

log = logging.getLogger(__name__)

_SHORT = {"address": "-a", "config": "-c", "log_level": "-l"}
"""Containerd's short flags."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop; return its exit status."""
    flags = vars(_parser().parse_args(argv))
    try:
        if flags["command"] == "config":
            return _config(flags["action"], flags["config"])
        settings = resolve(flags, os.environ)
        logs.configure(settings.log_level, settings.log_format)
        for warning in settings.warnings:
            log.warning("%s", warning)

        def again() -> Settings:
            return resolve(flags, os.environ)

        from sampan.daemon.serve import serve

        asyncio.run(serve(settings, again))
    except SampanError as err:
        sys.stderr.write(f"sampand: {err}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampand", description="The container daemon of Sampan.")
    parser.add_argument("--version", action="version", version=f"sampand {__version__}")
    for name in NAMES:
        short = [_SHORT[name]] if name in _SHORT else []
        parser.add_argument(*short, f"--{name.replace('_', '-')}", default=None)
    commands = parser.add_subparsers(dest="command")
    config = commands.add_parser("config", help="show or migrate the configuration")
    config.add_argument("action", choices=("default", "dump", "migrate"))
    return parser


def _config(action: str, path: str | None) -> int:
    from sampan.daemon.configure import answer

    sys.stdout.write(answer(action, Path(path or _default_path())))
    return 0


def _default_path() -> str:
    return "/etc/sampan/config.toml"


if __name__ == "__main__":
    sys.exit(main())
