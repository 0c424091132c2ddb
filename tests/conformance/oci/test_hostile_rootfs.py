"""Rows 2 to 6 and 19 of the vulnerabilities: a rootfs and a config that mean harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires


@requires("root", "busybox")
def test_dev_as_a_link_leads_nowhere(runtime: Runtime, bundle: Bundle, short_path: Path) -> None:
    outside = short_path / "outside"
    outside.mkdir()
    dev = bundle.rootfs / "dev"
    if dev.exists():
        dev.rmdir()
    dev.symlink_to(outside)
    runtime.run(bundle, "true")
    if not runtime.ours:
        pytest.xfail("runc before 1.2.8 follows it: CVE-2025-52565")
    assert list(outside.iterdir()) == []


@requires("root", "busybox")
def test_proc_as_a_link_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    proc = bundle.rootfs / "proc"
    if proc.exists():
        proc.rmdir()
    proc.symlink_to("/tmp")
    result = runtime.run(bundle, "true")
    assert result.returncode != 0
    assert "must be mounted on ordinary directory" in result.stderr


@requires("root", "busybox")
def test_mount_over_proc_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/proc/sys", "tmpfs", "tmpfs")
    result = runtime.run(bundle, "true")
    if runtime.name == "runc":
        pytest.xfail("runc 1.1 accepts what it then makes read-only itself")
    assert result.returncode != 0
    assert "inside /proc" in result.stderr


@requires("root", "busybox")
def test_leaked_fds_are_no_way_out(runtime: Runtime, bundle: Bundle) -> None:
    for number in range(3, 24):
        result = runtime.run(bundle, "true", cwd=f"/proc/self/fd/{number}")
        assert result.returncode != 0, f"cwd /proc/self/fd/{number} was accepted"


@requires("root", "busybox")
def test_only_the_standard_fds_reach_the_program(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle, "ls", "/proc/self/fd")
    # ls itself opens the folder it lists, as 3.
    assert result.stdout.split() == ["0", "1", "2", "3"]


@requires("root", "busybox")
def test_sysctls_of_the_host_are_refused(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle, "true", sysctl={"kernel.core_pattern": "|/x"})
    assert result.returncode != 0
    assert "not in a separate kernel namespace" in result.stderr
