"""What is asked of a container: policy, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Request", "Volume"]


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder or file of the host, or a tmpfs, inside the container."""

    source: str
    target: str
    options: tuple[str, ...] = ()
    type: str = "bind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A container as its owner wants it; what is empty is the image's or the default."""

    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    """`NAME=value` each."""
    cwd: str = ""
    user: str = ""
    tty: bool = False
    hostname: str = ""
    read_only: bool = False
    volumes: tuple[Volume, ...] = ()
    memory_bytes: int = 0
    cpus: float = 0
    pids_limit: int = 0
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    network: str = "none"
    """`none` or `host`."""
    seccomp: bool = True
    privileged: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
