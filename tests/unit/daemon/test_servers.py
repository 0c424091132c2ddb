"""Sockets: ours, those that systemd gives us, and TLS."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from sampan.daemon.servers import activated, bind, tcp
from sampan.engine.schema import TcpListener
from sampan.errors import FailedPrecondition, InvalidArgument


def listening(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(1)
        return os.dup(sock.fileno())


def test_bind_replaces_what_is_dead(short_path: Path) -> None:
    path = short_path / "a/s.sock"
    for _ in range(2):
        with bind(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with pytest.raises(FailedPrecondition, match="another process serves"):
                bind(path)
    with pytest.raises(InvalidArgument, match="107 bytes"):
        bind(short_path / ("x" * 107))


def test_the_socket_of_the_address_is_taken(short_path: Path) -> None:
    wanted, other = short_path / "a.sock", short_path / "b.sock"
    fds = [listening(other), listening(wanted)]
    sock = activated(fds, wanted)
    assert sock is not None
    with sock:
        assert sock.getsockname() == str(wanted)
        assert not sock.getblocking()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_single_one_is_taken_whatever_its_path(short_path: Path) -> None:
    sock = activated([listening(short_path / "x.sock")], short_path / "other.sock")
    assert sock is not None
    sock.close()
    assert activated([], short_path / "x.sock") is None


def test_none_of_several_is_ours(short_path: Path) -> None:
    fds = [listening(short_path / "1.sock"), listening(short_path / "2.sock")]
    with pytest.raises(InvalidArgument, match="ListenStream"):
        activated(fds, short_path / "3.sock")


async def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    wrong = TcpListener(address="127.0.0.1:0", tls_cert=str(tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="TLS of"):
        async with tcp(wrong, []):
            pass
    async with tcp(TcpListener(), []):
        pass
