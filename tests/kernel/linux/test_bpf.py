"""Device programs of cgroup v2: loaded, replaced in one step, and obeyed."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.cgroups.files import Cgroup
from sampan.cgroups.v2 import devices
from sampan.linux import bpf, fds, process
from sampan.model.runtime.resources import DeviceRule, Resources
from sampan.testing import requires

pytestmark = requires("root")
DENY = DeviceRule(allow=False, access="rwm")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    roots = [Path(p) for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")]
    root = next((p for p in roots if (p / "cgroup.procs").exists()), None)
    if root is None:
        pytest.skip("no cgroup v2 tree")
    path = root / f"sampan-bpf-{uuid.uuid4().hex}"
    path.mkdir()
    yield path
    path.rmdir()


def opens(cgroup: Path, device: str, flags: int) -> bool:
    with fds.OwnedFd(os.open(cgroup, os.O_RDONLY)) as folder:
        pid, pidfd = process.clone3(cgroup_fd=folder.fd)
        if pid == 0:
            try:
                os.open(device, flags)
            except PermissionError:
                os._exit(13)
            os._exit(0)
    assert process.pidfd_wait(pidfd, 10)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert ended is not None
    return ended.si_status == 0


def test_program_decides_and_is_replaced(cgroup: Path) -> None:
    null = DeviceRule(allow=True, type="c", major=1, minor=3, access="rw")
    zero = DeviceRule(allow=True, type="c", major=1, minor=5, access="r")
    devices.apply(Cgroup(str(cgroup)), Resources(devices=(DENY, null)))
    assert opens(cgroup, "/dev/null", os.O_RDWR)
    assert not opens(cgroup, "/dev/zero", os.O_RDONLY)
    devices.apply(Cgroup(str(cgroup)), Resources(devices=(DENY, zero)))
    with fds.OwnedFd(os.open(cgroup, os.O_RDONLY)) as folder:
        assert len(bpf.attached_ids(folder.fd)) == 1
    assert not opens(cgroup, "/dev/null", os.O_RDWR)
    assert opens(cgroup, "/dev/zero", os.O_RDONLY)
    assert not opens(cgroup, "/dev/zero", os.O_WRONLY)
    everything = DeviceRule(allow=True)
    no_null_writing = DeviceRule(allow=False, type="c", major=1, minor=3, access="w")
    devices.apply(Cgroup(str(cgroup)), Resources(devices=(everything, no_null_writing)))
    assert opens(cgroup, "/dev/null", os.O_RDONLY)
    assert not opens(cgroup, "/dev/null", os.O_RDWR)
    assert opens(cgroup, "/dev/zero", os.O_RDWR)


def test_verifier_says_what_it_refuses() -> None:
    with pytest.raises(OSError, match="bpf"):
        bpf.prog_load(bytes(8))
