"""Two containers of one pod in one shim: pid and network namespaces shared, one user namespace.

zygote -> shim -> (our ttrpc codec) -> two births; and the same by exec. The second container has a
user namespace of its own, the first a bidirectional mount.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import SampanError
from sampan.rpc.messages.types import Status
from sampan.testing import Bundle, requires
from sampan.testing.bundle import DEFAULT_CAPABILITIES
from sampan.testing.shims import Shim, Shims
from sampan.zygote import Zygote

WAYS = [("fork", "first"), ("fork", "sandbox"), ("exec", "first"), ("exec-oci", "sandbox")]
"""How the shim and the runtime are entered, and who made the shared namespaces."""

pytestmark = [
    requires("root", "busybox"),
    pytest.mark.parametrize(("shims", "sandbox"), WAYS, indirect=True),
]

SHARED_KINDS = ("pid", "network")
OWN_KINDS = ("mount", "uts", "ipc")
NAMES = {"pid": "pid", "network": "net", "user": "user", "mount": "mnt", "uts": "uts", "ipc": "ipc"}
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_SHARED, MNT_DETACH = 1 << 20, 2
HOST_ID = 100000
IDS = [{"containerID": 0, "hostID": HOST_ID, "size": 65536}]
LIBC = ctypes.CDLL(None, use_errno=True)
SETS = ("bounding", "effective", "permitted")
STRONG = {name: [*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"] for name in SETS}


class Pod:
    """A shim with the containers `first` and `second`, both running `sleep`."""

    def __init__(self, shims: Shims, first: Bundle, second: Bundle, sandbox: int) -> None:
        self.first, self.second = first, second
        joined = _joined(sandbox) if sandbox else [{"type": kind} for kind in SHARED_KINDS]
        own = [{"type": kind} for kind in OWN_KINDS]
        self.shim = shims.start(first)
        self.first_pid = self.shim.launch(
            first, "sleep", "1000", namespaces=[*joined, *own], capabilities=STRONG,
            rootfs_propagation="rshared",
        )  # fmt: skip
        _give_proc_and_sys(second, sandbox or self.first_pid)
        self.second_pid = self.shim.launch(
            second, "sleep", "2000",
            namespaces=[*_joined(sandbox or self.first_pid), *own, {"type": "user"}],
            uid_mappings=IDS, gid_mappings=IDS,
        )  # fmt: skip


def _joined(pid: int) -> list[dict[str, Any]]:
    """Return entries of `linux.namespaces` that lead into those of `pid`."""
    return [{"type": kind, "path": f"/proc/{pid}/ns/{NAMES[kind]}"} for kind in SHARED_KINDS]


def _give_proc_and_sys(bundle: Bundle, pid: int) -> None:
    """Replace the mounts that root of a new user namespace may not make: not its pids, nor its net.

    The kernel lets only root of the user namespace that owns a pid or network namespace mount a
    fresh proc or sysfs of it. So the host makes a proc of the pod's pids, and binds it.
    """
    proc = bundle.path / "proc"
    proc.mkdir(mode=0o755)
    command = ("nsenter", "-t", str(pid), "-p", "mount", "-t", "proc", "proc", str(proc))
    subprocess.run(command, check=True)
    mounts = bundle.config["mounts"]
    mounts[:] = [each for each in mounts if each["destination"] not in ("/proc", "/sys")]
    bundle.mount("/sys", "bind", "/sys", "rbind", "ro")
    mounts.insert(0, mounts.pop())
    bundle.mount("/proc", "bind", str(proc), "rbind", "nosuid", "noexec", "nodev")
    mounts.insert(0, mounts.pop())


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{NAMES[kind]}")


def inner_pid(pid: int) -> str:
    """Return the number of `pid` in the innermost of its namespaces."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(row.split()[-1] for row in status.splitlines() if row.startswith("NSpid:"))


@pytest.fixture
def shims(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Shims]:
    with Shims(request.param, short_path) as made:
        yield made


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[int]:
    """The pid of a process that holds the namespaces; 0 when the first container makes them."""
    if request.param == "first":
        yield 0
        return
    ready, end = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, ready)
        zygote = stack.enter_context(Zygote.start())
        flags = CLONE_NEWPID | CLONE_NEWNET
        target = "sampan.testing.shims:holder"
        try:
            worker = zygote.fork(target, fds=[end], clone_flags=flags)
        finally:
            os.close(end)
        stack.enter_context(worker)
        assert os.read(ready, 2) == b"up"
        yield worker.pid
        worker.signal(signal.SIGKILL)
        assert worker.wait(10) == -signal.SIGKILL


@pytest.fixture
def shared(short_path: Path) -> Iterator[Path]:
    """A shared mount of the host, as bidirectional mounts need."""
    path = short_path / "shared"
    path.mkdir(mode=0o755)
    assert LIBC.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"mode=755") == 0
    assert LIBC.mount(None, os.fsencode(path), None, MS_SHARED, None) == 0
    yield path
    assert LIBC.umount2(os.fsencode(path), MNT_DETACH) == 0


@pytest.fixture
def pod(
    short_path: Path,
    sandbox: int,
    make_bundle: Callable[[], Bundle],
    shared: Path,
    shims: Shims,
) -> Iterator[Pod]:
    first, second = make_bundle(), make_bundle()
    first.mount("/shared", "bind", str(shared), "rbind", "rshared")
    for path in (short_path, second.path, second.rootfs):
        path.chmod(0o755)
    for folder, _, _ in os.walk(second.rootfs):
        os.chown(folder, HOST_ID, HOST_ID)
    try:
        yield Pod(shims, first, second, sandbox)
    finally:
        proc = second.path / "proc"
        if proc.is_mount():
            assert LIBC.umount2(os.fsencode(proc), MNT_DETACH) == 0


def test_two_containers_of_a_pod(pod: Pod, sandbox: int, shared: Path) -> None:
    """All at once, since a pod costs much to make: what is shared, what is not."""
    one, two = pod.first_pid, pod.second_pid
    for kind in SHARED_KINDS:
        assert namespace(one, kind) == namespace(two, kind)
        assert namespace(one, kind) != os.readlink(f"/proc/self/ns/{NAMES[kind]}")
    for kind in (*OWN_KINDS, "user"):
        assert namespace(one, kind) != namespace(two, kind)
    assert namespace(one, "user") == os.readlink("/proc/self/ns/user")
    if sandbox:
        assert namespace(one, "pid") == namespace(sandbox, "pid")
    _see_each_others_processes(pod)
    _meet_on_loopback(pod)
    _root_of_the_second_is_nobody(pod)
    _mounts_reach_the_host_and_back(pod, shared)


def _see_each_others_processes(pod: Pod) -> None:
    for bundle, pid in ((pod.first, pod.second_pid), (pod.second, pod.first_pid)):
        status, text = pod.shim.run(bundle.id, "cat", f"/proc/{inner_pid(pid)}/cmdline")
        assert status == 0, text
        assert text.split("\0")[:2] == ["sleep", "2000" if pid == pod.second_pid else "1000"]


def _meet_on_loopback(pod: Pod) -> None:
    for server, client, port in ((pod.first, pod.second, 7001), (pod.second, pod.first, 7002)):
        heard = pod.shim.begin(server.id, "sh", "-c", f"nc -l -p {port} -e cat")
        _wait_for_listener(pod.first_pid, port)
        said = pod.shim.run(client.id, "sh", "-c", f"echo hello | nc -w 5 127.0.0.1 {port}")
        assert said == (0, "hello\n")
        assert pod.shim.finish(server.id, heard) == (0, "")


def _wait_for_listener(pid: int, port: int) -> None:
    """Wait until somebody in the network namespace of `pid` listens at `port`."""
    listens = re.compile(rf":{port:04X} [0:]+ 0A ")
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
    until = time.monotonic() + 20
    while not any(listens.search(table.read_text()) for table in tables if table.exists()):
        assert time.monotonic() < until, f"nobody listens at {port}"
        select.select([], [], [], 0.002)


def _root_of_the_second_is_nobody(pod: Pod) -> None:
    assert os.stat(f"/proc/{pod.second_pid}").st_uid == HOST_ID
    status, text = pod.shim.run(pod.second.id, "id", "-u")
    assert (status, text) == (0, "0\n")
    status, text = pod.shim.run(pod.second.id, "kill", "-9", inner_pid(pod.first_pid))
    assert status != 0, "root of a user namespace has killed a process of the host's root"
    assert pod.shim.status(pod.first.id) == Status.RUNNING
    status, text = pod.shim.run(pod.second.id, "ip", "link", "set", "lo", "down")
    assert status != 0, "it has power over a network namespace that is not its own"


def _mounts_reach_the_host_and_back(pod: Pod, shared: Path) -> None:
    inner = "mkdir /shared/in && mount -t tmpfs in /shared/in && echo words > /shared/in/file"
    assert pod.shim.run(pod.first.id, "sh", "-c", inner) == (0, "")
    assert (shared / "in/file").read_text() == "words\n"
    assert os.path.ismount(shared / "in")
    assert pod.shim.run(pod.first.id, "umount", "/shared/in") == (0, "")
    assert not os.path.ismount(shared / "in")
    (shared / "out").mkdir()
    out = os.fsencode(shared / "out")
    assert LIBC.mount(b"tmpfs", out, b"tmpfs", 0, None) == 0
    (shared / "out/file").write_text("answer")
    assert pod.shim.run(pod.first.id, "cat", "/shared/out/file") == (0, "answer")
    assert LIBC.umount2(out, MNT_DETACH) == 0
    status, _ = pod.shim.run(pod.first.id, "cat", "/shared/out/file")
    assert status != 0


def test_the_second_ends_and_the_first_runs_on(pod: Pod) -> None:
    """Exit, exec and delete of one never touch the other."""
    shim, first, second = pod.shim, pod.first.id, pod.second.id
    running = shim.begin(first, "sleep", "1000")
    shim.kill(second, signal.SIGTERM)  # it is no init of a pid namespace, so that this ends it
    assert shim.wait(second).exit_status == 128 + signal.SIGTERM
    assert shim.status(first) == Status.RUNNING
    with pytest.raises(SampanError):
        shim.begin(second, "true")
    assert shim.delete(second).pid == pod.second_pid
    assert shim.status(first) == Status.RUNNING
    assert shim.run(first, "echo", "here") == (0, "here\n")
    shim.call("Kill", id=first, exec_id=running, signal=15)
    assert shim.finish(first, running)[0] == 128 + signal.SIGTERM
    assert not list(shim.oci_root.glob(second))
    _again(pod)


def _again(pod: Pod) -> None:
    """A third container joins after one has left."""
    own = [{"type": kind} for kind in (*OWN_KINDS, "user")]
    pod.shim.launch(
        pod.second, "sh", "-c", "exit 42", namespaces=[*_joined(pod.first_pid), *own],
        uid_mappings=IDS, gid_mappings=IDS,
    )  # fmt: skip
    assert pod.shim.wait(pod.second.id).exit_status == 42
    assert pod.shim.delete(pod.second.id).exit_status == 42


def test_the_first_ends(pod: Pod, sandbox: int) -> None:
    """With it goes a pid namespace of its own, and whoever lives there; not so a sandbox's."""
    shim, first, second = pod.shim, pod.first.id, pod.second.id
    shim.kill(first)
    assert shim.wait(first).exit_status == 137
    if sandbox:
        assert shim.status(second) == Status.RUNNING
        assert shim.run(second, "echo", "here") == (0, "here\n")
        shim.kill(second)
    ended = shim.wait(second)
    assert ended.exit_status == 137
    deleted = shim.delete(second)
    assert (deleted.pid, deleted.exited_at.ns) == (pod.second_pid, ended.exited_at.ns)
    assert shim.delete(first).pid == pod.first_pid


def test_a_failed_birth_leaves_its_neighbours_alone(pod: Pod, make_bundle: Any) -> None:
    bundle = make_bundle()
    namespaces = [*_joined(pod.first_pid), {"type": "mount"}, {"type": "uts"}]
    with pytest.raises(SampanError, match="no such file"):
        pod.shim.create(bundle, "/no/such", namespaces=namespaces)
    assert _states(pod.shim, pod.first.id, pod.second.id) == [Status.RUNNING] * 2
    shutil.rmtree(bundle.path)


def _states(shim: Shim, *ids: str) -> list[int]:
    return [shim.status(each) for each in ids]
