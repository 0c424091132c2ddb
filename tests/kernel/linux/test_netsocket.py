"""Sockets of other network namespaces, made by threads that end."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux.netsocket import socket_in
from sampan.testing import requires


@pytest.fixture
def netns(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "netns"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True, timeout=20)
    yield path
    subprocess.run(["umount", str(path)], check=True, timeout=20)


def _namespace() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


@requires("root")
def test_the_socket_is_inside_and_we_are_not(netns: Path) -> None:
    before = _namespace()
    threads = threading.active_count()
    with socket_in(netns, socket.AF_INET, socket.SOCK_STREAM) as sock:
        # The loopback in there is down, so that even an own address cannot be reached.
        with pytest.raises(OSError, match="unreachable"):
            sock.connect(("127.0.0.1", 9))
        assert not os.get_inheritable(sock.fileno())
    fd = os.open(netns, os.O_RDONLY)
    try:
        with socket_in(fd, socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::", 0))
        os.fstat(fd)  # it was only borrowed
    finally:
        os.close(fd)
    assert (_namespace(), threading.active_count()) == (before, threads)


def test_ours_needs_no_thread() -> None:
    with socket_in(None, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))


@requires("root")
def test_what_is_no_namespace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        socket_in(tmp_path / "no", socket.AF_INET, socket.SOCK_STREAM)
    with pytest.raises(OSError, match="Invalid argument"):
        socket_in(tmp_path, socket.AF_INET, socket.SOCK_STREAM)
