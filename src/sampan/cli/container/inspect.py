"""`sampan inspect`: a container or an image, whole, as JSON."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sampan.cli.app import App
from sampan.cli.output import print_found
from sampan.client.containers import Folder, find, view
from sampan.client.networking import given, of
from sampan.errors import NotFound, SampanError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.client import Client

__all__ = ["configure", "image_of", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--type", default="", choices=("", "container", "image"), help="look for one kind alone"
    )
    parser.add_argument(
        "-f", "--format", default="", metavar="TEMPLATE", help="json, or a template"
    )
    parser.add_argument("-s", "--size", action="store_true", help="how much it has written, too")
    parser.add_argument("names", nargs="+")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:

        async def one(name: str) -> dict[str, Any]:
            return await _one(client, name, args.type, sized=args.size)

        return await print_found(args.names, one, args.format)


async def _one(client: Client, name: str, kind: str, *, sized: bool) -> dict[str, Any]:
    if kind != "image":
        try:
            found = await _container(client, name)
            if sized:
                snapshots = client.snapshots(found["Driver"])
                found["SizeRw"] = (await snapshots.usage(found["Id"])).size
            return found
        except NotFound:
            if kind:
                raise
    try:
        return await image_of(client, name)
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
        "RestartPolicy": container.labels.get("containerd.io/restart.policy", "no"),
        "LogPath": str(Folder(client, container.id).log),
        "Driver": container.snapshotter,
        "Runtime": container.runtime.name,
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "Env": process.get("env", []),
            "WorkingDir": process.get("cwd", "/"),
            "Tty": bool(process.get("terminal")),
            "User": _user(process.get("user") or {}),
            "StopSignal": container.labels.get("sampan/stop-signal", "SIGTERM"),
            "Labels": {k: v for k, v in container.labels.items() if not k.startswith("sampan/")},
        },
        "HostConfig": _host_config(spec, container.labels),
        "Mounts": _mounts(spec, str(client.root)),
        "NetworkSettings": _network(Folder(client, container.id)),
        "Spec": spec,
    }


def _user(user: dict[str, Any]) -> str:
    return f"{user.get('uid', 0)}:{user.get('gid', 0)}"


def _host_config(spec: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    linux = spec.get("linux") or {}
    resources = linux.get("resources") or {}
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    names = of(labels).names
    return {
        "AutoRemove": labels.get("sampan/rm") == "true",
        "Memory": memory.get("limit") or 0,
        "MemorySwap": memory.get("swap") or 0,
        "NanoCpus": quota * 10**9 // period if quota > 0 and period else 0,
        "CpuShares": cpu.get("shares") or 0,
        "CpusetCpus": cpu.get("cpus") or "",
        "PidsLimit": (resources.get("pids") or {}).get("limit") or 0,
        "ReadonlyRootfs": bool((spec.get("root") or {}).get("readonly")),
        "NetworkMode": names[0] if names else "none",
        "Ulimits": (spec.get("process") or {}).get("rlimits") or [],
        "CgroupParent": (linux.get("cgroupsPath") or "").rpartition("/")[0],
    }


def _mounts(spec: dict[str, Any], root: str) -> list[dict[str, Any]]:
    """Return what is mounted from the host; files of ours, such as hosts, are left out."""
    found = []
    for mount in spec.get("mounts") or ():
        source, options = mount.get("source", ""), mount.get("options") or []
        if mount.get("type") != "bind" or source.startswith(f"{root}/containers/"):
            continue
        volume = source.startswith(f"{root}/volumes/")
        found.append(
            {
                "Type": "volume" if volume else "bind",
                **({"Name": source.split("/")[-2]} if volume else {}),
                "Source": source,
                "Destination": mount["destination"],
                "Mode": ",".join(options),
                "RW": "ro" not in options and "rro" not in options,
            }
        )
    return found


def _network(folder: Folder) -> dict[str, Any]:
    known = given(folder)
    ports: dict[str, list[dict[str, str]]] = {}
    for port in known["ports"]:
        inside = f"{port['container_port']}/{port['protocol']}"
        ports.setdefault(inside, []).append(
            {"HostIp": port["host_ip"] or "0.0.0.0", "HostPort": str(port["host_port"])}  # noqa: S104
        )
    networks = {}
    for one in known["networks"]:
        four = [text for text in one["addresses"] if ":" not in text]
        six = [text for text in one["addresses"] if ":" in text]
        networks[one["name"]] = {
            "IPAddress": four[0].partition("/")[0] if four else "",
            "IPPrefixLen": int(four[0].partition("/")[2]) if four else 0,
            "GlobalIPv6Address": six[0].partition("/")[0] if six else "",
            "Gateway": next((text for text in one["gateways"] if ":" not in text), ""),
            "MacAddress": one["mac"],
            "Interface": one["interface"],
        }
    first = next(iter(networks.values()), {})
    return {
        "IPAddress": first.get("IPAddress", ""),
        "Gateway": first.get("Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
        "Ports": ports,
        "Networks": networks,
    }


async def image_of(client: Client, name: str) -> dict[str, Any]:
    """Return an image as docker's inspect shows it."""
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
