"""Kernel parameters of networking, of the namespace that the calling thread is in."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["path_of", "read", "write", "write_if_there"]


def path_of(key: str) -> str:
    """Return the file of a parameter; `key` has slashes, or dots where no name contains one.

    A key with a slash is taken as it is, so that `net/ipv4/conf/eth0.5/arp_notify` works.
    """
    parts = key.split("/") if "/" in key else key.split(".")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"no name of a kernel parameter: {key!r}")
    return "/proc/sys/" + "/".join(parts)


def read(key: str) -> str:
    """Return a parameter's value."""
    fd = os.open(path_of(key), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def write(key: str, value: str) -> None:
    """Set a parameter."""
    fd = os.open(path_of(key), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def write_if_there(key: str, value: str) -> None:
    """Set a parameter, unless this kernel does without (no IPv6)."""
    with suppress(FileNotFoundError):
        write(key, value)
