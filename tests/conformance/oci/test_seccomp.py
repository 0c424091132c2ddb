"""Filters as the kernel then applies them."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampan.linux import fds
from sampan.model.runtime.defaults import DEFAULT_CAPABILITIES
from sampan.model.runtime.defaults_seccomp import default_seccomp
from sampan.testing import Bundle, Runtime, requires


@requires("root", "busybox")
def test_the_default_profile_lets_programs_run_and_stops_unshare(
    runtime: Runtime, bundle: Bundle
) -> None:
    program = "echo fine; unshare -U true || echo refused"
    profile = default_seccomp(DEFAULT_CAPABILITIES)
    result = runtime.run(bundle, "sh", "-c", program, seccomp=profile)
    assert result.stdout.split() == ["fine", "refused"]
    assert result.returncode == 0


@requires("root", "busybox")
def test_an_errno_of_ones_own(runtime: Runtime, bundle: Bundle) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    result = runtime.run(bundle, "mkdir", "/tmp/x", seccomp=profile)
    assert "No space left on device" in result.stderr


class Agent(threading.Thread):
    """Gets a filter's notification fd and answers each call with an error number of its own."""

    def __init__(self, path: Path, answer: int, *, dies: bool = False) -> None:
        super().__init__()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self._dies = dies
        self._stop_read, self._stop_write = os.pipe()
        self.states: list[dict[str, Any]] = []
        self.calls: list[int] = []

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        notifiers: set[int] = set()
        while True:
            for fd, events in poll.poll(20_000):
                if fd == self._stop_read:
                    for each in notifiers:
                        os.close(each)
                    return
                if fd == self._listener.fileno():
                    connection, _ = self._listener.accept()
                    data, received = fds.recv_fds(connection, 1 << 16, 1)
                    connection.close()
                    self.states.append(json.loads(data))
                    if self._dies:
                        os.close(received[0])
                        continue
                    notifiers.add(received[0])
                    poll.register(received[0], select.POLLIN)
                elif events & select.POLLIN:
                    self._reply(fd)
                else:
                    poll.unregister(fd)

    def _reply(self, fd: int) -> None:
        request = bytearray(80)
        fcntl.ioctl(fd, 0xC0502100, request)
        number, _, _, call = struct.unpack_from("=QIIi", request)
        self.calls.append(call)
        fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("=QqiI", number, 0, -self._answer, 0)))

    def close(self) -> None:
        os.write(self._stop_write, b"x")
        self.join(30)
        self._listener.close()
        os.close(self._stop_read)
        os.close(self._stop_write)


def notifying(path: Path, *names: str) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "what was asked",
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
    }


@requires("root", "busybox")
def test_an_agent_answers(runtime: Runtime, bundle: Bundle, short_path: Path) -> None:
    """Of init and of an exec; it is told the container's state, and which fd it has got."""
    agent = Agent(short_path / "agent", 28)
    agent.start()
    try:
        profile = notifying(short_path / "agent", "mkdir", "mkdirat")
        script = "mkdir /tmp/x; sleep 100"
        name = runtime.create(bundle, "sh", "-c", script, seccomp=profile)
        runtime.start(name)
        result = runtime.exec(name, "mkdir", "/tmp/y")
        assert "No space left on device" in result.stderr
        runtime.delete(name, force=True)
    finally:
        agent.close()
    assert len(agent.states) == 2
    for state in agent.states:
        assert state["fds"] == ["seccompFd"]
        assert state["metadata"] == "what was asked"
        assert state["pid"] > 0
        assert state["state"]["id"] == bundle.id
    assert agent.states[0]["state"]["status"] == "creating"
    assert agent.states[1]["state"]["status"] == "running"


@requires("root", "busybox")
def test_a_dead_agent_means_enosys(runtime: Runtime, bundle: Bundle, short_path: Path) -> None:
    agent = Agent(short_path / "agent", 28, dies=True)
    agent.start()
    try:
        profile = notifying(short_path / "agent", "mkdir", "mkdirat")
        result = runtime.run(bundle, "mkdir", "/tmp/x", seccomp=profile)
    finally:
        agent.close()
    assert "Function not implemented" in result.stderr


@requires("root", "busybox")
def test_what_the_runtime_needs_itself_may_be_notified(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, short_path: Path
) -> None:
    """execve, openat, read and close wait for the agent, who lets nothing of them through."""
    runtime = make_runtime("sampan-exec")
    profile = notifying(short_path / "agent", "write")
    result = runtime.run(bundle, "true", seccomp=profile)
    assert result.returncode != 0
    assert "write" in result.stderr


@requires("root", "busybox")
def test_without_an_agent_there_is_no_container(
    runtime: Runtime, bundle: Bundle, short_path: Path
) -> None:
    result = runtime.run(bundle, "true", seccomp=notifying(short_path / "nobody", "mkdir"))
    assert result.returncode != 0
