"""Filters as the kernel then applies them."""

from __future__ import annotations

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
