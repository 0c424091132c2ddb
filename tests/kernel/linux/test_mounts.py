"""Mounts by descriptor, mountinfo, namespaces and capabilities, in namespaces of their own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.linux import capabilities, fds, keyring, mounts, process, seccomp
from sampan.linux import namespaces as ns
from sampan.testing import requires

pytestmark = requires("root")


def alone(work: Callable[[], object], flags: int = ns.CLONE_NEWNS) -> None:
    """Run `work` in new namespaces and fail with what it raised."""
    read_end, write_end = os.pipe()
    pid, pidfd = process.clone3(flags)
    if pid == 0:
        try:
            if flags & ns.CLONE_NEWNS:
                mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
            work()
        except BaseException as error:  # noqa: BLE001
            os.write(write_end, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    assert process.pidfd_wait(pidfd, 20)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    said = os.read(read_end, 4096).decode()
    os.close(read_end)
    assert not said


def test_new_mount_is_attached_without_a_path(tmp_path: Path) -> None:
    target = tmp_path / "with space"
    target.mkdir()

    def work() -> None:
        tmpfs = mounts.mount_new("tmpfs", {"size": "1m"}, mounts.MOUNT_ATTR_NOEXEC, source="sampan")
        with fds.OwnedFd(tmpfs), fds.OwnedFd(os.open(target, os.O_PATH)) as on:
            mounts.attach(tmpfs, on.fd)
        found = [m for m in mounts.mountinfo() if m.mount_point == os.fsencode(target)]
        assert len(found) == 1
        assert (found[0].fstype, found[0].source) == (b"tmpfs", b"sampan")
        assert b"noexec" in found[0].options
        assert mounts.statfs_type(str(target)) == mounts.TMPFS_MAGIC
        mounts.mount_setattr(mounts.AT_FDCWD, str(target), add=mounts.MOUNT_ATTR_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            (target / "x").touch()
        mounts.umount2(str(target), mounts.MNT_DETACH)
        assert mounts.statfs_type(str(target)) != mounts.TMPFS_MAGIC

    alone(work)


def test_kernel_explains_what_is_wrong_with_an_option() -> None:
    def work() -> None:
        with pytest.raises(OSError, match=r"fsconfig.*\(.*nonsense"):
            mounts.mount_new("tmpfs", {"nonsense": "1"})
        with pytest.raises(OSError, match="fsopen"):
            mounts.fsopen("nosuchfs")

    alone(work)


def test_pivot_root(tmp_path: Path) -> None:
    def work() -> None:
        mounts.mount("tmpfs", str(tmp_path), "tmpfs")
        (tmp_path / "only").touch()
        os.chdir(tmp_path)
        mounts.pivot_root(".", ".")
        mounts.umount2(".", mounts.MNT_DETACH)
        assert os.listdir("/") == ["only"]

    alone(work)


def test_namespaces_are_entered_and_known() -> None:
    def work() -> None:
        own = ns.open_namespace("self", "uts")
        ns.unshare(ns.CLONE_NEWUTS)
        ns.sethostname("inside")
        ns.setdomainname("domain")
        assert os.uname().nodename == "inside"
        other = ns.open_namespace("self", "uts")
        assert ns.nstype(other) == ns.CLONE_NEWUTS
        assert not ns.same_namespace(own, other)
        assert ns.nstype(ns.owner_userns(other)) == ns.CLONE_NEWUSER
        ns.setns(own, ns.CLONE_NEWUTS)
        assert os.uname().nodename != "inside"

    alone(work, 0)


def test_user_namespace_is_mapped_by_the_parent() -> None:
    read_end, write_end = os.pipe()
    pid, pidfd = process.clone3(ns.CLONE_NEWUSER)
    if pid == 0:
        os.read(read_end, 1)
        os._exit(0 if os.getuid() == 5 and os.getgid() == 6 else 1)
    ns.write_id_map(pid, "uid", [(5, 0, 1), (100, 1000, 10)])
    ns.write_id_map(pid, "gid", [(6, 0, 1)])
    os.write(write_end, b"x")
    assert process.pidfd_wait(pidfd, 10)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    for fd in (read_end, write_end, pidfd):
        os.close(fd)
    assert ended is not None
    assert ended.si_status == 0


def test_capabilities_shrink() -> None:
    def work() -> None:
        net, chown = capabilities.NUMBERS["CAP_NET_RAW"], capabilities.NUMBERS["CAP_CHOWN"]
        keep = 1 << chown | 1 << net
        capabilities.bounding_drop(keep)
        assert capabilities.bounding() == keep
        capabilities.capset(keep, keep, 1 << net)
        assert capabilities.capget() == (keep, keep, 1 << net)
        capabilities.ambient_raise(net)
        assert capabilities.ambient_has(net)
        with pytest.raises(PermissionError):
            capabilities.ambient_raise(chown)
        with pytest.raises(PermissionError):
            capabilities.capset(keep | 1, keep | 2, 0)
        with pytest.raises(PermissionError):
            ns.sethostname("x")
        assert capabilities.names_of(keep) == ["CAP_CHOWN", "CAP_NET_RAW"]

    alone(work, ns.CLONE_NEWUTS)


def test_seccomp_filter_decides() -> None:
    """Load syscall number, fail uname with errno 77, allow the rest."""
    import struct

    from sampan.linux._libc import ARCH

    number = {"x86_64": 63, "aarch64": 160}[ARCH]
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x5004D), (0x06, 0, 0, 0x7FFF0000)]

    def work() -> None:
        assert seccomp.load(b"".join(struct.pack("=HBBI", *op) for op in code)) == 0
        with pytest.raises(OSError, match=r"\[Errno 77\]"):
            os.uname()

    alone(work, 0)


def test_session_keyring_is_fresh_and_guarded() -> None:
    def work() -> None:
        before = keyring.join_session()
        key = keyring.add_key("user", "sampan-secret", b"x")
        fresh = keyring.join_session("sampan-test")
        assert fresh != before
        assert keyring.describe(keyring.serial())[4] == "sampan-test"
        keyring.set_permissions(fresh, mask=0xFFFFFFFF, add=0x080000)
        assert keyring.describe(fresh)[3] & 0x080000
        assert key > 0

    alone(work, 0)
