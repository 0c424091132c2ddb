"""The flags that `run` and `create` share, and what they ask for."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from sampan.cli.output import parse_size
from sampan.client.spec.request import Request, Volume
from sampan.errors import InvalidArgument

__all__ = ["VALUED", "add", "labels_of", "request_of"]

VALUED = frozenset((
    "--name", "-e", "--env", "--env-file", "-w", "--workdir", "-u", "--user", "-v", "--volume",
    "--mount", "--tmpfs", "-m", "--memory", "--cpus", "--pids-limit", "--hostname", "--cap-add",
    "--cap-drop", "--network", "--net", "--entrypoint", "-l", "--label", "--security-opt",
    "--stop-signal", "--pull", "--platform", "--cidfile", "--sig-proxy",
))  # fmt: skip
"""Flags that take a value of their own, for finding where the container's command begins."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument("--name", default="", help="name of the container")
    parser.add_argument("-i", "--interactive", action="store_true", help="pass our stdin on")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    parser.add_argument("--env-file", action="append", default=[], metavar="FILE")
    parser.add_argument("-w", "--workdir", default="", metavar="DIR")
    parser.add_argument("-u", "--user", default="", metavar="USER[:GROUP]")
    parser.add_argument("-v", "--volume", action="append", default=[], metavar="HOST:DIR[:ro]")
    parser.add_argument("--mount", action="append", default=[], metavar="type=...,src=...,dst=...")
    parser.add_argument("--tmpfs", action="append", default=[], metavar="DIR[:OPTIONS]")
    parser.add_argument("-m", "--memory", default="", metavar="BYTES")
    parser.add_argument("--cpus", default="", metavar="N")
    parser.add_argument("--pids-limit", type=int, default=0, metavar="N")
    parser.add_argument("--hostname", default="", metavar="NAME")
    parser.add_argument("--read-only", action="store_true", help="root file system read-only")
    parser.add_argument("--cap-add", action="append", default=[], metavar="CAP")
    parser.add_argument("--cap-drop", action="append", default=[], metavar="CAP")
    parser.add_argument("--network", "--net", default="none", metavar="none|host")
    parser.add_argument("--entrypoint", default=None, metavar="PROGRAM")
    parser.add_argument("-l", "--label", action="append", default=[], metavar="KEY[=VALUE]")
    parser.add_argument("--security-opt", action="append", default=[], metavar="seccomp=unconfined")
    parser.add_argument("--stop-signal", default="", metavar="SIGNAL")
    parser.add_argument("--rm", action="store_true", help="remove the container when it ends")
    parser.add_argument("image", help="an image, or host: for this host's own programs")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="command and its arguments")


def request_of(args: argparse.Namespace) -> Request:
    """Return what the flags ask for.

    Raises:
      InvalidArgument: one is malformed.
    """
    entrypoint = None
    if args.entrypoint is not None:
        entrypoint = (args.entrypoint,) if args.entrypoint else ()
    return Request(
        args=tuple(args.args),
        entrypoint=entrypoint,
        env=_environment(args.env, args.env_file),
        cwd=args.workdir,
        user=args.user,
        tty=args.tty,
        hostname=args.hostname,
        read_only=args.read_only,
        volumes=(
            *(_volume(text) for text in args.volume),
            *(_mount(text) for text in args.mount),
            *(_tmpfs(text) for text in args.tmpfs),
        ),
        memory_bytes=parse_size(args.memory) if args.memory else 0,
        cpus=_cpus(args.cpus),
        pids_limit=args.pids_limit,
        cap_add=tuple(args.cap_add),
        cap_drop=tuple(args.cap_drop),
        network=args.network,
        seccomp="seccomp=unconfined" not in args.security_opt,
    )


def labels_of(args: argparse.Namespace) -> dict[str, str]:
    """Return the labels of the container's record."""
    labels = {}
    for text in args.label:
        key, _, value = text.partition("=")
        if not key or key.startswith(("sampan/", "containerd.io/")):
            raise InvalidArgument(f"label {text!r} is refused: the key is empty or reserved")
        labels[key] = value
    if args.rm:
        labels["sampan/rm"] = "true"
    if args.tty:
        labels["sampan/tty"] = "true"
    if args.interactive:
        labels["sampan/stdin"] = "true"
    if args.stop_signal:
        labels["sampan/stop-signal"] = args.stop_signal
    return labels


def _environment(pairs: list[str], files: list[str]) -> tuple[str, ...]:
    lines = []
    for name in files:
        try:
            text = Path(name).read_text("utf-8", "surrogateescape")
        except OSError as err:
            raise InvalidArgument(f"environment file {name}: {err.strerror}") from err
        lines += [line for line in text.splitlines() if line and not line.startswith("#")]
    found = []
    for pair in [*lines, *pairs]:
        if "=" in pair:
            found.append(pair)
        elif pair in os.environ:
            found.append(f"{pair}={os.environ[pair]}")
    return tuple(found)


def _cpus(text: str) -> float:
    if not text:
        return 0
    if (
        not text.isascii()
        or not text.replace(".", "", 1).isdigit()
        or not 0.01 <= float(text) <= 65536
    ):
        raise InvalidArgument(f"--cpus {text!r} is no number from 0.01")
    return float(text)


def _source(text: str) -> str:
    if not text.startswith(("/", ".", "~")):
        raise InvalidArgument(f"volume {text!r}: named volumes are not there yet; write a path")
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InvalidArgument(f"volume source {path} does not exist")
    return str(path)


def _volume(text: str) -> Volume:
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise InvalidArgument(f"volume {text!r} is not HOST:DIR or HOST:DIR:ro")
    options = tuple(option for option in (parts[2:] or [""])[0].split(",") if option)
    for option in options:
        if option not in ("ro", "rw", "rshared", "rslave", "rprivate", "z", "Z"):
            raise InvalidArgument(f"volume {text!r}: unknown option {option!r}")
    return Volume(_source(parts[0]), parts[1], tuple(o for o in options if o not in ("z", "Z")))


def _mount(text: str) -> Volume:
    values: dict[str, str] = {}
    for pair in shlex.split(text.replace(",", " ")) if '"' in text else text.split(","):
        key, _, value = pair.partition("=")
        values[{"src": "source", "dst": "target", "destination": "target"}.get(key, key)] = value
    kind = values.pop("type", "bind")
    target, source = values.pop("target", ""), values.pop("source", "")
    read_only = values.pop("readonly", values.pop("ro", None))
    if kind not in ("bind", "tmpfs") or not target or (kind == "bind" and not source):
        raise InvalidArgument(
            f"mount {text!r}: want type=bind|tmpfs, source for a bind, and target"
        )
    options = ["ro"] if read_only in ("", "true", "1") else []
    if kind == "tmpfs" and "tmpfs-size" in values:
        options.append(f"size={parse_size(values.pop('tmpfs-size'))}")
    if values:
        raise InvalidArgument(f"mount {text!r}: unknown key {next(iter(values))}")
    return Volume(_source(source) if kind == "bind" else "tmpfs", target, tuple(options), kind)


def _tmpfs(text: str) -> Volume:
    target, _, options = text.partition(":")
    return Volume("tmpfs", target, tuple(o for o in options.split(",") if o), "tmpfs")
