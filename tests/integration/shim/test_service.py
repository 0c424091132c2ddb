"""The Task service of real shims: ours in both forms, and Debian's containerd-shim-runc-v2."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.errors import FailedPrecondition, NotFound, SampanError, Unavailable
from sampan.linux.process import pidfd_open, pidfd_wait
from sampan.rpc.client import Client
from sampan.rpc.messages import cgroups1, runc, task, types
from sampan.rpc.messages.wellknown import Any
from sampan.rpc.wire import Message
from sampan.testing import requires

SERVICE = "containerd.task.v2.Task"
SHIMS = ["native", "runc", "debian"]


def make_bundle(folder: Path, *args: str) -> None:
    """Write a bundle around busybox."""
    (folder / "rootfs/bin").mkdir(parents=True)
    (folder / "rootfs/proc").mkdir()
    busybox = shutil.which("busybox") or ""
    shutil.copy(busybox, folder / "rootfs/bin/busybox")
    for word in subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout.split():
        if word.startswith("/"):
            target = folder / "rootfs" / word.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, target)
    for name in ("sh", "sleep", "cat", "echo", "true", "dd", "stty", "yes"):
        (folder / "rootfs/bin" / name).symlink_to("busybox")
    spec = {
        "ociVersion": "1.0.2",
        "process": process(*args),
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "cgroupsPath": f"/sampan-test-shim/{folder.name}-{os.getpid()}",
            "namespaces": [{"type": each} for each in ("pid", "ipc", "uts", "mount")],
        },
    }
    (folder / "config.json").write_text(json.dumps(spec))


def process(*args: str) -> dict[str, object]:
    return {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


class Shim:
    """A started shim and its bundle."""

    def __init__(self, kind: str, folder: Path, *args: str) -> None:
        self.kind = kind
        self.folder = folder
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        self.binary = "" if kind == "native" else "runc"
        make_bundle(self.bundle, *args)
        program = [sys.executable, "-m", "sampan.shim.main"]
        if kind == "debian":
            program = ["containerd-shim-runc-v2"]
            os.mkfifo(self.bundle / "log")
            self._log = os.open(self.bundle / "log", os.O_RDWR | os.O_NONBLOCK)
        else:
            (self.bundle / "log").touch()
            self._log = -1
        arguments = ["-namespace", "t", "-id", "c1", "-address", str(folder / "ctrd"), "start"]
        environment = {**os.environ, "TTRPC_ADDRESS": ""}
        if kind == "debian":
            environment["TTRPC_ADDRESS"] = str(folder / "ctrd.ttrpc")
            arguments = ["-publish-binary", "/bin/true", *arguments]
        started = subprocess.run(
            [*program, *arguments],
            cwd=self.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
            env=environment, check=True,
        )  # fmt: skip
        self.address = started.stdout.removeprefix("unix://")
        self.client = Client.connect(self.address)
        self.pid = int(self.call("Connect", id="c1").shim_pid)
        self.pidfd = pidfd_open(self.pid)

    def call(self, method: str, **fields: object) -> Untyped:
        if self.kind == "debian" and fields.get("stdout"):
            # 1.6 sends both streams of a file:// URI into stdout's file, and cannot do without
            # a stderr.
            fields["stderr"] = fields["stdout"]
        request, answer = task.METHODS[method]
        return self.client.call(SERVICE, method, request(**fields), answer, timeout_s=20)

    def create(self, **fields: object) -> Untyped:
        options = Any.pack(runc.Options(binary_name=self.binary, root=str(self.folder / "root")))
        return self.call("Create", id="c1", bundle=str(self.bundle), options=options, **fields)

    def close(self) -> None:
        for method, fields in (
            ("Kill", {"id": "c1", "signal": 9, "all": True}), ("Wait", {"id": "c1"}),
            ("Delete", {"id": "c1"}), ("Shutdown", {"id": "c1", "now": True}),
        ):  # fmt: skip
            try:
                self.call(method, **fields)
            except SampanError:
                continue
        self.client.close()
        assert pidfd_wait(self.pidfd, 20)
        os.close(self.pidfd)
        if self._log >= 0:
            os.close(self._log)


@pytest.fixture(params=SHIMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sampan-shim-"))
    yield path
    shutil.rmtree(path)


def uri(path: Path) -> str:
    return f"file://{path}"


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_a_whole_life(kind: str, folder: Path) -> None:
    shim = Shim(kind, folder, "sh", "-c", "echo out; echo err >&2; exec sleep 100")
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
def test_exec_has_its_own_status_output_and_end(kind: str, folder: Path) -> None:
    shim = Shim(kind, folder, "sleep", "100")
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
def test_create_fails_in_the_runtimes_words(kind: str, folder: Path) -> None:
    shim = Shim(kind, folder, "nosuchprogram")
    try:
        with pytest.raises(SampanError, match="executable file not found"):
            shim.create()
        with pytest.raises(NotFound):
            shim.call("State", id="c1")
    finally:
        shim.close()


@requires("root", "busybox", "runc", "containerd-shim-runc-v2")
def test_fifos_carry_every_byte_to_a_late_reader(kind: str, folder: Path) -> None:
    size = 4 << 20
    shim = Shim(
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
def test_a_full_fifo_blocks_the_container_and_a_new_reader_goes_on(folder: Path) -> None:
    shim = Shim("native", folder, "dd", "if=/dev/zero", "bs=65536", "count=64")
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
def test_stdin_ends_with_closeio(kind: str, folder: Path) -> None:
    shim = Shim(kind, folder, "cat")
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
@pytest.mark.parametrize("kind", ["native", "runc"])
def test_terminal(kind: str, folder: Path) -> None:
    shim = Shim(kind, folder, "sh", "-c", "read x; stty size; echo got $x")
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
def test_json_log_without_a_client(folder: Path) -> None:
    shim = Shim("native", folder, "sh", "-c", "echo one; echo two >&2; echo -n three")
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
def test_the_socket_is_gone_after_shutdown(folder: Path) -> None:
    shim = Shim("native", folder, "true")
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
