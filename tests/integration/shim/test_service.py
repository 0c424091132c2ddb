"""The Task service of real shims: ours in both forms, and Debian's containerd-shim-runc-v2."""

import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.errors import FailedPrecondition, NotFound, SampanError, Unavailable
from sampan.rpc.client import Client
from sampan.rpc.messages import cgroups1, task, types
from sampan.rpc.messages.wellknown import Any
from sampan.rpc.wire import Message
from sampan.testing import requires

SERVICE = "containerd.task.v2.Task"
SHIMS = ["native", "forked", "runc", "debian"]


NewShim = Callable[..., Untyped]


def process(*args: str) -> dict[str, object]:
    return {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


@pytest.fixture(params=SHIMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def uri(path: Path) -> str:
    return f"file://{path}"


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_a_whole_life(new_shim: NewShim, kind: str, folder: Path) -> None:
    shim = new_shim(kind, folder, "sh", "-c", "echo out; echo err >&2; exec sleep 100")
    try:
        out, err = folder / "out", folder / "err"
        pid = shim.create(stdout=uri(out), stderr=uri(err)).pid
        assert shim.call("State", id="c1").status == types.Status.CREATED
        assert shim.call("Start", id="c1").pid == pid
        assert shim.call("State", id="c1").status == types.Status.RUNNING
        assert pid in [each.pid for each in shim.call("Pids", id="c1").processes]
        metrics = shim.call("Stats", id="c1").stats
        assert metrics.type_url.endswith(".Metrics")
        if metrics.holds(cgroups1.Metrics):
            unpacked = metrics.unpack(cgroups1.Metrics)
            assert unpacked.memory.usage.usage > 0
        shim.call("Pause", id="c1")
        assert shim.call("State", id="c1").status == types.Status.PAUSED
        shim.call("Resume", id="c1")
        until_s = time.monotonic() + 10
        while not any(each.exists() and "err\n" in each.read_text() for each in (out, err)):
            assert time.monotonic() < until_s
            select.select([], [], [], 0.005)
        with pytest.raises(SampanError):
            shim.call("Delete", id="c1")
        shim.call("Kill", id="c1", signal=9)
        ended = shim.call("Wait", id="c1")
        assert ended.exit_status == 137
        with pytest.raises(NotFound):
            shim.call("Kill", id="c1", signal=9)
        deleted = shim.call("Delete", id="c1")
        assert (deleted.pid, deleted.exit_status) == (pid, 137)
        assert deleted.exited_at.ns == ended.exited_at.ns
        if kind == "debian":
            assert sorted(out.read_text().split()) == ["err", "out"]
        else:
            assert (out.read_text(), err.read_text()) == ("out\n", "err\n")
        with pytest.raises(NotFound):
            shim.call("State", id="c1")
    finally:
        shim.close()


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_exec_has_its_own_status_output_and_end(new_shim: NewShim, kind: str, folder: Path) -> None:
    shim = new_shim(kind, folder, "sleep", "100")
    try:
        shim.create()
        shim.call("Start", id="c1")
        spec = Any(value=json.dumps(process("sh", "-c", "echo in; exit 7")).encode())
        shim.call("Exec", id="c1", exec_id="e", spec=spec, stdout=uri(folder / "out"))
        shim.call("Start", id="c1", exec_id="e")
        assert shim.call("Wait", id="c1", exec_id="e").exit_status == 7
        assert shim.call("Delete", id="c1", exec_id="e").exit_status == 7
        assert (folder / "out").read_text() == "in\n"
        bad = Any(value=json.dumps(process("/no/such")).encode())
        shim.call("Exec", id="c1", exec_id="bad", spec=bad)
        with pytest.raises(SampanError, match="no such file"):
            shim.call("Start", id="c1", exec_id="bad")
        with pytest.raises(NotFound):
            shim.call("Start", id="c1", exec_id="none")
    finally:
        shim.close()


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_create_fails_in_the_runtimes_words(new_shim: NewShim, kind: str, folder: Path) -> None:
    shim = new_shim(kind, folder, "nosuchprogram")
    try:
        with pytest.raises(SampanError, match="executable file not found"):
            shim.create()
        with pytest.raises(NotFound):
            shim.call("State", id="c1")
    finally:
        shim.close()


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_fifos_carry_every_byte_to_a_late_reader(
    new_shim: NewShim, kind: str, folder: Path
) -> None:
    size = 4 << 20
    shim = new_shim(
        kind, folder, "dd", "if=/dev/zero", "status=none", "bs=65536", f"count={size // 65536}"
    )
    fifo = folder / "stdout"
    os.mkfifo(fifo)
    # Debian's shim waits for a reader within Create; ours must not need one.
    early = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK) if kind == "debian" else -1
    try:
        shim.create(stdout=str(fifo))
        shim.call("Start", id="c1")
        count = 0
        with open(fifo, "rb") as reader:
            if early >= 0:
                os.close(early)
                early = -1
            while data := reader.read(1 << 20):
                count += len(data)
        assert count == size
        assert shim.call("Wait", id="c1").exit_status == 0
    finally:
        shim.close()


@requires("root", "busybox")
def test_a_full_fifo_blocks_until_a_new_reader_goes_on(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "dd", "if=/dev/zero", "bs=65536", "count=64")
    fifo = folder / "stdout"
    os.mkfifo(fifo)
    try:
        shim.create(stdout=str(fifo))
        first = os.open(fifo, os.O_RDONLY)
        shim.call("Start", id="c1")
        count = len(os.read(first, 100_000))
        os.close(first)  # vanished
        assert shim.call("State", id="c1").status == types.Status.RUNNING
        with open(fifo, "rb") as second:
            count += len(second.read())
        assert count == 64 * 65536
    finally:
        shim.close()


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_stdin_ends_with_closeio(new_shim: NewShim, kind: str, folder: Path) -> None:
    shim = new_shim(kind, folder, "cat")
    stdin, stdout = folder / "stdin", folder / "stdout"
    os.mkfifo(stdin)
    os.mkfifo(stdout)
    keep = os.open(stdin, os.O_RDWR)
    reader = os.open(stdout, os.O_RDONLY | os.O_NONBLOCK)
    try:
        shim.create(stdin=str(stdin), stdout=str(stdout))
        shim.call("Start", id="c1")
        os.write(keep, b"words")
        os.close(keep)
        keep = -1
        shim.call("CloseIO", id="c1", stdin=True)
        assert shim.call("Wait", id="c1").exit_status == 0
        assert shim.call("Delete", id="c1").exit_status == 0
        assert os.read(reader, 100) == b"words"
    finally:
        os.close(reader)
        if keep >= 0:
            os.close(keep)
        shim.close()


@requires("root", "busybox", "runc")
@pytest.mark.parametrize("kind", ["native", "forked", "runc"])
def test_terminal(new_shim: NewShim, kind: str, folder: Path) -> None:
    shim = new_shim(kind, folder, "sh", "-c", "read x; stty size; echo got $x")
    stdin, stdout = folder / "stdin", folder / "stdout"
    os.mkfifo(stdin)
    os.mkfifo(stdout)
    spec = json.loads((shim.bundle / "config.json").read_text())
    spec["process"]["terminal"] = True
    spec["mounts"].append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"})
    spec["mounts"].append(
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["newinstance", "ptmxmode=0666", "mode=620"]}
    )  # fmt: skip
    (shim.bundle / "config.json").write_text(json.dumps(spec))
    try:
        shim.create(stdin=str(stdin), stdout=str(stdout), terminal=True)
        shim.call("ResizePty", id="c1", width=99, height=33)
        shim.call("Start", id="c1")
        with open(stdout, "rb") as reader, open(stdin, "wb") as writer:
            writer.write(b"hello\n")
            writer.flush()
            text = reader.read()
        assert b"33 99" in text
        assert b"got hello" in text
        assert shim.call("Wait", id="c1").exit_status == 0
    finally:
        shim.close()


@requires("root", "busybox")
def test_json_log_without_a_client(new_shim: NewShim, ours: str, folder: Path) -> None:
    shim = new_shim(ours, folder, "sh", "-c", "echo one; echo two >&2; echo -n three")
    log = folder / "log.json"
    try:
        target = f"sampan-log://{log}?format=json-file&max-size=1000000"
        shim.create(stdout=target, stderr=target)
        shim.call("Start", id="c1")
        shim.call("Wait", id="c1")
        shim.call("Delete", id="c1")
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        assert {(row["stream"], row["log"]) for row in rows} == {
            ("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three"),
        }  # fmt: skip
    finally:
        shim.close()


@requires("root", "busybox")
def test_the_socket_is_gone_after_shutdown(new_shim: NewShim, ours: str, folder: Path) -> None:
    shim = new_shim(ours, folder, "true")
    shim.create()
    shim.call("Start", id="c1")
    with pytest.raises(FailedPrecondition):
        shim.call("Start", id="c1")
    shim.close()
    assert not os.path.lexists(shim.address)
    with pytest.raises((Unavailable, OSError)):
        Client.connect(shim.address)


def test_methods_are_all_served() -> None:
    names = {
        "State", "Create", "Start", "Delete", "Pids", "Pause", "Resume", "Checkpoint", "Kill",
        "Exec", "ResizePty", "CloseIO", "Update", "Wait", "Stats", "Connect", "Shutdown",
    }  # fmt: skip
    assert set(task.METHODS) == names
    assert all(issubclass(each, Message) for pair in task.METHODS.values() for each in pair)
