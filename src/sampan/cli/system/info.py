"""`sampan info`: what this installation and this machine are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from sampan import __version__
from sampan.cli.app import App
from sampan.cli.output import size

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--format", default="", metavar="TEMPLATE", help="json, or a template"
    )


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.client.containers import views

    async with app.client() as client:
        seen = await views(client)
        images = len(await client.images.list())
    settings = app.settings
    states = [view.state for view in seen]
    values: dict[str, Any] = {
        "ServerVersion": __version__,
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
        "Images": images,
        "Namespace": app.namespace,
        "Driver": settings.snapshotter,
        "DefaultRuntime": settings.runtime,
        "Root": str(settings.root),
        "State": str(settings.state),
        "Address": str(settings.address),
        "HostsDir": str(settings.hosts_dir),
        "Config": str(settings.config or ""),
        "CgroupVersion": _cgroups(),
        "KernelVersion": os.uname().release,
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count(),
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": os.uname().nodename,
    }
    if args.format:
        from sampan.cli.template import render

        print(render(args.format, values))
        return 0
    values["MemTotal"] = size(values["MemTotal"])
    for key, value in values.items():
        print(f"{key}: {value}")
    return 0


def _cgroups() -> str:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "2"
    return "1 and 2 (hybrid)" if Path("/sys/fs/cgroup/unified").exists() else "1"
