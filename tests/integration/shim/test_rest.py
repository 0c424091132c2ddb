"""Servers that go to rest, and their successors: nothing is lost, and nobody outside can tell."""

import fcntl
import json
import os
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.errors import NotFound
from sampan.rpc.client import Client
from sampan.rpc.messages import task, types
from sampan.rpc.messages.wellknown import Any
from sampan.testing import requires

pytestmark = requires("root", "busybox")

SERVICE = "containerd.task.v2.Task"
NewShim = Callable[..., Untyped]


class Waiting:
    """A Wait on a connection of its own, in a thread."""

    def __init__(self, shim: Untyped, **fields: object) -> None:
        self._client = Client.connect(shim.address)
        self._fields = fields
        self.answer: Untyped = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        request = task.WaitRequest(**self._fields)  # type: ignore[arg-type]
        self.answer = self._client.call(SERVICE, "Wait", request, task.WaitResponse, timeout_s=None)

    def end(self) -> Untyped:
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._client.close()
        return self.answer


def exec_spec(*args: str) -> Any:
    values = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    return Any(value=json.dumps(values).encode())


def give_terminal(shim: Untyped) -> None:
    """Ask for one in config.json, too."""
    spec = json.loads((shim.bundle / "config.json").read_text())
    spec["process"]["terminal"] = True
    spec["mounts"].append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"})
    spec["mounts"].append(
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["newinstance", "ptmxmode=0666", "mode=620"]}
    )  # fmt: skip
    (shim.bundle / "config.json").write_text(json.dumps(spec))


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait for what the container writes, of which nobody tells us."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        select.select([], [], [], 0.005)


def test_a_wait_is_answered_by_another_server(
    new_shim: NewShim, new_hearer: Callable[[Path], Untyped], folder: Path
) -> None:
    hearer = new_hearer(folder / "ctrd.ttrpc")
    hearer.listen()
    shim = new_shim("forked", folder, "sleep", "1000", hearer=hearer)
    try:
        pid = shim.create().pid
        shim.call("Start", id="c1")
        waiting = Waiting(shim, id="c1")
        for _ in range(3):
            shim.rest()
            assert shim.call("State", id="c1").status == types.Status.RUNNING
        shim.rest()
        began_ns = time.time_ns()
        os.kill(pid, signal.SIGTERM)  # nobody but the keeper is there to see it end
        os.kill(pid, signal.SIGKILL)
        answer = waiting.end()
        assert answer.exit_status == 137
        assert began_ns <= answer.exited_at.ns <= time.time_ns()
        shim.rest()
        with pytest.raises(NotFound):
            shim.call("Kill", id="c1", signal=9)
        assert shim.call("Delete", id="c1").exited_at.ns == answer.exited_at.ns
        shim.rest()  # which it does not before all events are told
        topics = [each.topic for each in hearer.heard]
        assert topics == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    finally:
        shim.close()


def test_execs_outlive_the_server_that_bore_them(new_shim: NewShim, folder: Path) -> None:
    shim = new_shim("forked", folder, "sleep", "1000")
    try:
        shim.create()
        shim.call("Start", id="c1")
        out = folder / "out"
        shim.call(
            "Exec", id="c1", exec_id="e1", stdout=f"file://{out}",
            spec=exec_spec("sh", "-c", "echo -n begun; read x < /fifo; echo , ended; exit 7"),
        )  # fmt: skip
        os.mkfifo(shim.bundle / "rootfs/fifo")
        shim.rest()  # also between Exec and Start
        shim.call("Start", id="c1", exec_id="e1")
        waiting = Waiting(shim, id="c1", exec_id="e1")
        until(lambda: out.exists() and out.read_bytes() == b"begun")
        shim.rest()
        (shim.bundle / "rootfs/fifo").write_text("go\n")
        assert waiting.end().exit_status == 7
        shim.rest()
        deleted = shim.call("Delete", id="c1", exec_id="e1")
        assert deleted.exit_status == 7
        assert out.read_text() == "begun, ended\n"
    finally:
        shim.close()


def test_a_line_cut_in_two_by_a_rest_is_one_line(new_shim: NewShim, folder: Path) -> None:
    shim = new_shim("forked", folder, "sh", "-c", "echo -n one; read x; echo , $x; echo -n end")
    log, stdin = folder / "log", folder / "stdin"
    os.mkfifo(stdin)
    try:
        shim.create(stdout=f"sampan-log://{log}?format=cri", stdin=str(stdin))
        writer = os.open(stdin, os.O_WRONLY)
        shim.call("Start", id="c1")
        shim.rest()
        assert log.read_text() == ""
        os.write(writer, b"two\n")
        os.close(writer)
        shim.call("CloseIO", id="c1", stdin=True)
        shim.call("Wait", id="c1")
        shim.rest()
        lines = [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
        assert lines == ["stdout F one, two", "stdout P end"]
    finally:
        shim.close()


def test_a_terminal_is_kept(new_shim: NewShim, folder: Path) -> None:
    shim = new_shim("forked", folder, "sh", "-c", "read x; stty size; read x")
    log, stdin = folder / "log", folder / "stdin"
    os.mkfifo(stdin)
    give_terminal(shim)
    try:
        shim.create(stdout=f"sampan-log://{log}?format=raw", stdin=str(stdin), terminal=True)
        writer = os.open(stdin, os.O_WRONLY)
        shim.call("Start", id="c1")
        shim.rest()
        shim.call("ResizePty", id="c1", width=123, height=45)
        shim.rest()
        os.write(writer, b"go\n")
        until(lambda: b"45 123" in log.read_bytes())
        os.close(writer)
    finally:
        shim.close()


def test_a_full_fifo_waits_through_a_rest(new_shim: NewShim, folder: Path) -> None:
    size = 1 << 20
    shim = new_shim(
        "forked", folder, "dd", "if=/dev/zero", "status=none", "bs=65536", f"count={size >> 16}"
    )
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    try:
        shim.create(stdout=str(fifo))
        shim.call("Start", id="c1")
        shim.rest()
        reader = os.open(fifo, os.O_RDONLY)
        assert fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4) != struct.pack("i", 0)
        read = 0
        while data := os.read(reader, 1 << 16):
            read += len(data)
        os.close(reader)
        assert read == size
        assert shim.call("Wait", id="c1").exit_status == 0
    finally:
        shim.close()
