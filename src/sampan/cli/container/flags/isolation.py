"""Flags about what separates the container from the host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "fields"]


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument("--hostname", "-h", default="", metavar="NAME", help="its host name")
    parser.add_argument("--domainname", default="", metavar="NAME", help="its NIS domain name")
    parser.add_argument(
        "--pid", default="", metavar="host|container:NAME", help="whose processes it sees"
    )
    parser.add_argument(
        "--ipc",
        default="",
        metavar="private|host|container:NAME",
        help="whose System V IPC it uses",
    )
    parser.add_argument("--uts", default="", metavar="host", help="whose host name it has")
    parser.add_argument(
        "--cgroupns", default="", metavar="private|host", help="whose cgroups it sees"
    )
    parser.add_argument("--userns", default="", metavar="host", help="whose user ids it has")
    parser.add_argument(
        "--cgroup-parent", default="", metavar="PATH", help="cgroup to make its own in"
    )
    parser.add_argument(
        "--cap-add", action="append", default=[], metavar="CAP", help="give a capability"
    )
    parser.add_argument(
        "--cap-drop", action="append", default=[], metavar="CAP", help="take a capability; or ALL"
    )
    parser.add_argument("--privileged", action="store_true", help="nearly all of the host's rights")
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="HOST[:DIR[:rwm]]",
        help="show a device of the host",
    )
    parser.add_argument(
        "--device-cgroup-rule",
        action="append",
        default=[],
        metavar="'c 1:3 rwm'",
        help="allow devices by number",
    )
    parser.add_argument(
        "--security-opt",
        action="append",
        default=[],
        metavar="seccomp=FILE,...",
        help="seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, systempaths=unconfined",
    )
    parser.add_argument(
        "--sysctl",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a sysctl of its own namespaces",
    )
    parser.add_argument(
        "--oom-score-adj",
        type=int,
        default=None,
        metavar="N",
        help="how likely the kernel kills it when memory is short",
    )


def fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a Request."""
    if args.userns not in ("", "host"):
        raise Unimplemented(f"--userns {args.userns} is not there yet: only host is")
    sysctls = {}
    for text in args.sysctl:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"sysctl {text!r} is not NAME=VALUE")
        sysctls[name] = value
    return {
        "hostname": args.hostname,
        "domainname": args.domainname,
        "namespaces": _namespaces(args),
        "cgroup_parent": args.cgroup_parent,
        "cap_add": tuple(args.cap_add),
        "cap_drop": tuple(args.cap_drop),
        "privileged": args.privileged,
        "devices": tuple(args.device),
        "device_rules": tuple(args.device_cgroup_rule),
        "sysctls": sysctls,
        "oom_score_adj": args.oom_score_adj,
        **_security(args.security_opt),
    }


def _namespaces(args: argparse.Namespace) -> dict[str, str]:
    """Return them; `container:NAME` stays as it is until the client has found the container."""
    found = {}
    for kind, text in (
        ("pid", args.pid), ("ipc", args.ipc), ("uts", args.uts), ("cgroup", args.cgroupns),
    ):  # fmt: skip
        if text in ("", "private", "shareable"):
            continue
        shared = text.startswith("container:") and kind in ("pid", "ipc")
        if text != "host" and not shared:
            raise InvalidArgument(f"--{kind} {text!r} is neither private, host nor container:NAME")
        found[kind] = text
    return found


def _security(options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in options:
        key, _separator, value = text.partition("=") if "=" in text else text.partition(":")
        match key, value:
            case "no-new-privileges", "" | "true":
                found["no_new_privileges"] = True
            case "no-new-privileges", "false":
                found["no_new_privileges"] = False
            case "seccomp", "unconfined" | "default" | "builtin":
                found["seccomp"] = "default" if value == "builtin" else value
            case "seccomp", _ if value:
                found["seccomp"] = _profile(value)
            case "apparmor", _ if value:
                found["apparmor"] = value
            case "systempaths", "unconfined":
                found["mask_paths"] = False
            case "label", "disable":
                found["selinux_label"] = ""
            case _:
                raise InvalidArgument(
                    f"security option {text!r}: there are no-new-privileges, seccomp=unconfined or "
                    "FILE, apparmor=PROFILE, systempaths=unconfined and label=disable"
                )
    return found


def _profile(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidArgument(f"seccomp profile {path}: {err}") from err
