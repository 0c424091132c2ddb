"""Descriptors: what closes, what travels, what is sealed and locked."""

import _socket
import os
from pathlib import Path

import pytest

from sampan.linux import fds, process


def test_close_all_but_keeps_exactly_the_listed() -> None:
    read_end, write_end = os.pipe()
    pid, pidfd = process.clone3()
    if pid == 0:
        high = os.dup2(write_end, 199)
        fds.close_all_but([high])
        os.write(high, repr(fds.list_fds()).encode())
        os._exit(0)
    assert process.pidfd_wait(pidfd, 10)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert os.read(read_end, 999) == b"[199]"
    for fd in (read_end, write_end, pidfd):
        os.close(fd)


def test_descriptors_travel_close_on_exec() -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    with fds.OwnedFd(fds.sealed_memfd("x", b"content")) as memfd:
        fds.send_fds(ours, b"hello", [memfd.fd])
        data, received = fds.recv_fds(theirs, 100)
        assert data == b"hello"
        assert os.pread(received[0], 100, 0) == b"content"
        assert not os.get_inheritable(received[0])
        os.close(received[0])
        before = fds.list_fds()
        fds.send_fds(ours, b"hello", [memfd.fd] * 3)
        with pytest.raises(OSError, match="longer"):
            fds.recv_fds(theirs, 100, 1)
        assert fds.list_fds() == before
    ours.close()
    theirs.close()


def test_sealed_memory_cannot_be_changed() -> None:
    with fds.OwnedFd(fds.sealed_memfd("x", b"content")) as memfd:
        assert fds.is_sealed(memfd.fd)
        with pytest.raises(PermissionError):
            os.write(memfd.fd, b"y")
        with pytest.raises(PermissionError):
            os.ftruncate(memfd.fd, 0)
    assert memfd.fd == -1


def test_lock_belongs_to_the_description(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with fds.OwnedFd(os.open(path, os.O_RDWR | os.O_CREAT)) as one:
        assert fds.lock(one.fd)
        with fds.OwnedFd(os.open(path, os.O_RDWR)) as other:
            assert not fds.lock(other.fd)
            os.close(os.open(path, os.O_RDWR))  # a POSIX lock would be lost here
            assert not fds.lock(other.fd)
            fds.unlock(one.fd)
            assert fds.lock(other.fd)


def test_socket_path_longer_than_sockaddr_un(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / "socket"
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with pytest.raises(OSError, match="too long"):
        server.bind(str(path))
    fds.unix_bind(server, str(path))
    server.listen(1)
    fds.unix_connect(client, str(path))
    client.close()
    server.close()
