"""Flags about mounts: -v, --mount, --tmpfs, --volumes-from, --shm-size.

A volume by name is written as `Volume(source=NAME, type="volume")`; the client knows where it is.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.cli.output import parse_size
from sampan.client.spec.request import Volume
from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "fields"]

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_OPTIONS: Final = frozenset((
    "ro", "rw", "rro", "shared", "slave", "private", "rshared", "rslave", "rprivate", "bind",
    "rbind", "z", "Z", "nocopy", "U", "exec", "noexec", "suid", "nosuid", "dev", "nodev",
))  # fmt: skip
_ALIASES: Final = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly",
    "bind-propagation": "propagation",
}  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument(
        "-v",
        "--volume",
        action="append",
        default=[],
        metavar="SOURCE:DIR[:ro]",
        help="mount a path of the host, or a named volume",
    )
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="type=...,src=...,dst=...",
        help="the same, by words",
    )
    parser.add_argument(
        "--tmpfs", action="append", default=[], metavar="DIR[:OPTIONS]", help="mount a fresh tmpfs"
    )
    parser.add_argument(
        "--volumes-from",
        action="append",
        default=[],
        metavar="CONTAINER[:ro]",
        help="mount what another container has",
    )
    parser.add_argument("--shm-size", default="", metavar="BYTES", help="size of /dev/shm")
    parser.add_argument("--read-only", action="store_true", help="root file system read-only")


def fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a Request."""
    return {
        "volumes": (
            *(Volume(text, "", type="from") for text in args.volumes_from),
            *(_volume(text) for text in args.volume),
            *(_mount(text) for text in args.mount),
            *(_tmpfs(text) for text in args.tmpfs),
        ),
        "shm_bytes": parse_size(args.shm_size) if args.shm_size else 0,
        "read_only": args.read_only,
    }


def _path(text: str) -> str:
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InvalidArgument(f"volume source {path} does not exist")
    return str(path)


def _volume(text: str) -> Volume:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise InvalidArgument(f"volume {text!r} is not SOURCE:DIR, SOURCE:DIR:OPTIONS or DIR")
    if len(parts) == 1:
        return Volume("", parts[0], type="volume")
    options = tuple(option for option in (parts[2:] or [""])[0].split(",") if option)
    for option in options:
        if option not in _OPTIONS:
            raise InvalidArgument(f"volume {text!r}: unknown option {option!r}")
    kept = tuple(o for o in options if o not in ("z", "Z", "nocopy", "U"))
    if parts[0].startswith(("/", ".", "~")):
        return Volume(_path(parts[0]), parts[1], kept)
    if not _NAME.fullmatch(parts[0]):
        raise InvalidArgument(f"volume {text!r}: {parts[0]!r} is neither a path nor a name")
    return Volume(parts[0], parts[1], kept, "volume")


def _mount(text: str) -> Volume:
    values: dict[str, str] = {}
    for pair in next(csv.reader([text])):
        key, equals, value = pair.partition("=")
        values[_ALIASES.get(key, key)] = value if equals else "true"
    kind = values.pop("type", "volume")
    target, source = values.pop("target", ""), values.pop("source", "")
    read_only = values.pop("readonly", "false")
    if kind not in ("bind", "volume", "tmpfs") or not target or (kind == "bind" and not source):
        raise InvalidArgument(
            f"mount {text!r}: want type=bind|volume|tmpfs, source for a bind, and target"
        )
    if kind == "tmpfs" and source:
        raise InvalidArgument(f"mount {text!r}: a tmpfs has no source")
    options = []
    if read_only in ("true", "1"):
        options.append("rro" if values.pop("bind-recursive", "") == "readonly" else "ro")
    elif read_only not in ("false", "0"):
        raise InvalidArgument(f"mount {text!r}: readonly is true or false")
    if kind == "bind":
        if "propagation" in values:
            options.append(values.pop("propagation"))
        if values.pop("bind-recursive", "enabled") == "disabled":
            options.append("bind")
        source = _path(source)
    if kind == "tmpfs":
        if "tmpfs-size" in values:
            options.append(f"size={parse_size(values.pop('tmpfs-size'))}")
        if "tmpfs-mode" in values:
            options.append(f"mode={values.pop('tmpfs-mode')}")
        source = "tmpfs"
    values.pop("volume-nocopy", None)
    if values:
        raise InvalidArgument(f"mount {text!r}: unknown key {next(iter(values))}")
    return Volume(source, target, tuple(options), kind)


def _tmpfs(text: str) -> Volume:
    target, _, options = text.partition(":")
    return Volume("tmpfs", target, tuple(o for o in options.split(",") if o), "tmpfs")
