"""systemd's readiness protocol, with ourselves as the manager."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sampan.daemon.notify import listen_fds, notify


def test_without_a_manager_nothing_is_sent() -> None:
    assert not notify({}, "READY=1")
    assert not notify({"NOTIFY_SOCKET": "relative"}, "READY=1")
    assert not notify({"NOTIFY_SOCKET": "/nothing/there"}, "READY=1")


def test_a_manager_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(5)
        assert notify({"NOTIFY_SOCKET": str(tmp_path / "n")}, "READY=1")
        assert manager.recv(64) == b"READY=1"


def test_an_abstract_address_is_understood() -> None:
    name = f"sampan-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        assert notify({"NOTIFY_SOCKET": f"@{name}"}, "STOPPING=1")
        assert manager.recv(64) == b"STOPPING=1"


def test_fds_for_somebody_else_are_left_alone() -> None:
    assert listen_fds({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, pid=2) == []
    assert listen_fds({"LISTEN_PID": "2", "LISTEN_FDS": "x"}, pid=2) == []
