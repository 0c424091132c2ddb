"""From what `Sandbox(...)` was given to a request, and to processes of a running container."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.client.networking import Networking, Port
from sampan.client.spec.request import Limits, Request, Volume
from sampan.errors import InvalidArgument
from sampan.sandbox import idle
from sampan.sandbox.values import Mount, parse_bytes

if TYPE_CHECKING:
    from sampan.model.runtime.process import Process as SpecProcess
    from sampan.model.runtime.process import User

__all__ = ["Options", "environment", "mounts_of", "networking_of", "process_json", "request_of"]

_RESERVED: Final = ("sampan/", "containerd.io/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sandbox is to be; `Sandbox` documents each."""

    image: str
    command: tuple[str, ...] | None = None
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    user: str = ""
    hostname: str = ""
    memory: int | str | None = None
    cpus: float | None = None
    pids: int | None = None
    network: str | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    mounts: Sequence[Mount | str] | Mapping[str, str] = ()
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    pull: str = "missing"

    def check(self) -> None:
        """Raise InvalidArgument for what can never be met."""
        for key in self.labels:
            if not key or key.startswith(_RESERVED):
                raise InvalidArgument(f"label {key!r} is refused: it is empty or reserved")
        if self.cpus is not None and not 0.01 <= self.cpus <= 65536:
            raise InvalidArgument(f"cpus={self.cpus} is no number of CPUs from 0.01")
        if self.pids is not None and self.pids < 1:
            raise InvalidArgument(f"pids={self.pids} leaves no room for a process")
        if self.ports and self.network in (None, "none", "host"):
            raise InvalidArgument(
                f"ports need a network of the sandbox's own, and network={self.network!r}: name one"
            )
        mounts_of(self.mounts)
        parse_bytes(self.memory)
        environment(self.env)


def request_of(options: Options, root: Path) -> Request:
    """Return the request. Blocks, shortly: the idle program is written when it is missing."""
    volumes = list(mounts_of(options.mounts))
    entrypoint: tuple[str, ...] | None = None
    args = options.command or ()
    if options.command is None:
        program = str(idle.ensure(root))
        volumes.append(Volume(program, idle.PATH, ("bind", "ro", "nosuid", "nodev")))
        entrypoint, args = (idle.PATH,), ()
    elif args:
        entrypoint = ()
    return Request(
        args=args,
        entrypoint=entrypoint,
        env=environment(options.env),
        cwd=options.cwd,
        user=options.user,
        hostname=options.hostname,
        read_only=options.read_only,
        volumes=tuple(volumes),
        limits=Limits(
            memory_bytes=parse_bytes(options.memory),
            cpus=options.cpus or 0,
            pids=options.pids or 0,
        ),
        cap_add=options.cap_add,
        cap_drop=options.cap_drop,
        network=options.network if options.network == "host" else "none",
    )


def networking_of(options: Options) -> Networking | None:
    """Return what is wanted of networks; None where the request says it all."""
    if options.network in (None, "none", "host"):
        return None
    ports = tuple(Port(host, inner) for inner, host in options.ports.items())
    return Networking(names=(str(options.network),), ports=ports)


def mounts_of(mounts: Sequence[Mount | str] | Mapping[str, str]) -> tuple[Volume, ...]:
    """Return mounts as volumes.

    Raises:
      InvalidArgument: one is malformed, or its source does not exist.
    """
    if isinstance(mounts, Mapping):
        mounts = [Mount.parse(f"{source}:{target}") for source, target in mounts.items()]
    found = []
    for one in mounts:
        mount = Mount.parse(one) if isinstance(one, str) else one
        options = (*mount.options, *(("ro",) if mount.read_only else ()))
        if not mount.source:
            found.append(Volume("tmpfs", mount.target, options, "tmpfs"))
            continue
        source = Path(mount.source).expanduser().absolute()
        if not source.exists():
            raise InvalidArgument(f"mount source {source} does not exist: make it first")
        found.append(Volume(os.fspath(source), mount.target, options))
    return tuple(found)


def environment(env: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return `NAME=value` each.

    Raises:
      InvalidArgument: a name is empty or has `=`, or something has a NUL.
    """
    found = []
    for name, value in (env or {}).items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidArgument(f"environment variable {name!r} cannot be set to {value!r}")
        found.append(f"{name}={value}")
    return tuple(found)


def process_json(
    template: SpecProcess,
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: str,
    user: User | None,
    tty: bool,
) -> dict[str, Any]:
    """Return `process` of an exec, which is the container's own but for what is given.

    Raises:
      InvalidArgument: no command, or `cwd` is no absolute path.
    """
    if not args:
        raise InvalidArgument("no command: name a program, and its arguments one by one")
    if any("\0" in arg for arg in args):
        raise InvalidArgument(f"an argument of {args[0]!r} contains a NUL")
    if cwd and not cwd.startswith("/"):
        raise InvalidArgument(f"working folder {cwd!r} must be an absolute path")
    values = dict(pair.partition("=")[::2] for pair in template.env)
    if tty:
        values.setdefault("TERM", "xterm")
    values.update(pair.partition("=")[::2] for pair in environment(env))
    made = template.replace(
        args=tuple(args),
        terminal=tty,
        cwd=os.path.normpath(cwd) if cwd else template.cwd,
        user=user or template.user,
        env=tuple(f"{name}={value}" for name, value in values.items()),
    )
    return made.to_json()
