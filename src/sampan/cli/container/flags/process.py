"""Flags about the process, and about what becomes of its container."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "environment", "fields", "labels", "restart_labels"]

_INITS: Final = ("docker-init", "tini-static", "catatonit", "tini")
_INIT_FOLDERS: Final = ("/usr/libexec/docker", "/usr/libexec/podman", "/usr/bin", "/usr/local/bin")
_RESERVED: Final = ("sampan/", "containerd.io/")


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument("--name", default="", help="name of the container")
    parser.add_argument("-i", "--interactive", action="store_true", help="pass our stdin on")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set a variable; a bare name takes ours",
    )
    parser.add_argument(
        "--env-file", action="append", default=[], metavar="FILE", help="variables, one a line"
    )
    parser.add_argument("-w", "--workdir", default="", metavar="DIR", help="working folder inside")
    parser.add_argument(
        "-u", "--user", default="", metavar="USER[:GROUP]", help="who runs it, by name or number"
    )
    parser.add_argument(
        "--group-add",
        action="append",
        default=[],
        metavar="GROUP",
        help="a further group of the process",
    )
    parser.add_argument(
        "--entrypoint",
        default=None,
        metavar="PROGRAM",
        help="run this in place of the entrypoint of the image",
    )
    parser.add_argument("--init", action="store_true", help="a small init reaps orphans")
    parser.add_argument(
        "-l",
        "--label",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="a label of the container",
    )
    parser.add_argument(
        "--label-file", action="append", default=[], metavar="FILE", help="labels, one a line"
    )
    parser.add_argument(
        "--annotation",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an annotation of config.json",
    )
    parser.add_argument(
        "--stop-signal", default="", metavar="SIGNAL", help="what `stop` sends first"
    )
    parser.add_argument(
        "--stop-timeout",
        type=int,
        default=None,
        metavar="SECONDS",
        help="how long `stop` waits before SIGKILL",
    )
    parser.add_argument("--rm", action="store_true", help="remove the container when it ends")
    parser.add_argument(
        "--restart", default="no", metavar="no|always|on-failure[:N]|unless-stopped",
        help="when sampand starts it again",
    )  # fmt: skip
    parser.add_argument("--runtime", default="", metavar="NAME", help="the shim to run it with")
    parser.add_argument(
        "--pull",
        default="missing",
        choices=("always", "missing", "never"),
        help="when to ask the registry",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress of a pull")
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="which image of an index")
    parser.add_argument("--cidfile", default="", help="write the id into this new file")


def fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a Request."""
    entrypoint = None
    if args.entrypoint is not None:
        entrypoint = (args.entrypoint,) if args.entrypoint else ()
    return {
        "args": tuple(args.args),
        "entrypoint": entrypoint,
        "env": environment(args.env, args.env_file),
        "cwd": args.workdir,
        "user": args.user,
        "groups": tuple(args.group_add),
        "tty": args.tty,
        "init": _init() if args.init else "",
        "annotations": dict(_pair(text, "annotation") for text in args.annotation),
    }


def labels(args: argparse.Namespace) -> dict[str, str]:
    """Return the labels of the record."""
    found = {}
    for text in (*_lines(args.label_file, "label file"), *args.label):
        key, _, value = text.partition("=")
        if not key or key.startswith(_RESERVED):
            raise InvalidArgument(f"label {text!r} is refused: the key is empty or reserved")
        found[key] = value
    for name, flag in (("rm", args.rm), ("tty", args.tty), ("stdin", args.interactive)):
        if flag:
            found[f"sampan/{name}"] = "true"
    if args.stop_signal:
        found["sampan/stop-signal"] = args.stop_signal
    if args.stop_timeout is not None:
        found["sampan/stop-timeout"] = str(args.stop_timeout)
    restart = restart_labels(args.restart)
    if args.rm and restart:
        raise InvalidArgument("--rm and --restart exclude each other")
    return {**found, **restart}


def restart_labels(policy: str) -> dict[str, str]:
    """Return what the daemon's restart monitor reads.

    Raises:
      InvalidArgument: it is none of the policies.
    """
    name, colon, count = policy.partition(":")
    known = name in ("no", "always", "unless-stopped", "on-failure")
    digits = count.isascii() and count.isdigit()
    if not known or (colon and (name != "on-failure" or not digits)):
        raise InvalidArgument(
            f"restart policy {policy!r} is none of no, always, on-failure[:N], unless-stopped"
        )
    if name == "no":
        return {}
    return {"containerd.io/restart.policy": policy, "containerd.io/restart.status": "running"}


def environment(pairs: list[str], files: list[str]) -> tuple[str, ...]:
    """Return `NAME=value` of each flag and line; a bare name takes ours, or nothing."""
    found = []
    for pair in [*_lines(files, "environment file"), *pairs]:
        if "=" in pair:
            found.append(pair)
        elif pair in os.environ:
            found.append(f"{pair}={os.environ[pair]}")
    return tuple(found)


def _lines(files: list[str], what: str) -> list[str]:
    lines = []
    for name in files:
        try:
            text = Path(name).read_text("utf-8", "surrogateescape")
        except OSError as err:
            raise InvalidArgument(f"{what} {name}: {err.strerror}") from err
        lines += [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return lines


def _pair(text: str, what: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidArgument(f"{what} {text!r} is not KEY=VALUE")
    return key, value


def _init() -> str:
    for name in _INITS:
        for folder in _INIT_FOLDERS:
            if os.access(f"{folder}/{name}", os.X_OK):
                return f"{folder}/{name}"
        if path := shutil.which(name):
            return path
    raise NotFound(
        f"--init: none of {', '.join(_INITS)} is on this host: install tini or catatonit"
    )
