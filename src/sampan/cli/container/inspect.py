"""`sampan inspect`: a container or an image, whole, as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sampan.cli.app import App
from sampan.cli.output import print_json
from sampan.client.containers import Folder, find, view
from sampan.errors import NotFound, SampanError

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", default="", choices=("", "container", "image"))
    parser.add_argument("names", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    found, status = [], 0
    async with app.client() as client:
        for name in args.names:
            try:
                found.append(await _one(client, name, args.type))
            except SampanError as err:
                sys.stderr.write(f"sampan: {err}\n")
                status = 1
    print_json(found)
    return status


async def _one(client: Client, name: str, kind: str) -> dict[str, Any]:
    if kind != "image":
        try:
            return await _container(client, name)
        except NotFound:
            if kind:
                raise
    try:
        return await _image(client, name)
    except SampanError as err:
        raise NotFound(f"no such container or image: {name}") from err


async def _container(client: Client, name: str) -> dict[str, Any]:
    container = await find(client, name)
    seen = await view(client, container)
    spec = json.loads(container.spec.value)
    process = spec.get("process", {})
    return {
        "Id": container.id,
        "Name": seen.name,
        "Created": container.created_at.isoformat(),
        "Image": container.image,
        "Path": (process.get("args") or [""])[0],
        "Args": (process.get("args") or [""])[1:],
        "State": {
            "Status": seen.state,
            "Running": seen.state in ("running", "paused"),
            "Paused": seen.state == "paused",
            "Pid": seen.task.pid if seen.task and seen.state != "exited" else 0,
            "ExitCode": seen.exit_status,
            "FinishedAt": _time(seen.exited_at_ns),
        },
        "LogPath": str(Folder(client, container.id).log),
        "Driver": container.snapshotter,
        "Runtime": container.runtime.name,
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "Env": process.get("env", []),
            "WorkingDir": process.get("cwd", "/"),
            "Tty": bool(process.get("terminal")),
            "Labels": {k: v for k, v in container.labels.items() if not k.startswith("sampan/")},
        },
        "Spec": spec,
    }


async def _image(client: Client, name: str) -> dict[str, Any]:
    import msgspec

    from sampan.client import images

    image = await images.find(client, name)
    config = await images.config_of(client, image)
    return {
        "Id": image.target.digest,
        "RepoTags": [image.name],
        "Created": config.created or "",
        "Architecture": config.architecture,
        "Os": config.os,
        "Config": msgspec.to_builtins(config.config) if config.config else {},
        "RootFS": {"Type": "layers", "Layers": list(config.rootfs.diff_ids)},
    }


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat() if ns else ""
