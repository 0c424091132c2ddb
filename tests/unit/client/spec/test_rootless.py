"""What an ordinary user's config.json lacks, and what is refused."""

import pytest

from sampan.client.spec.request import Limits, Request
from sampan.client.spec.rootless import adapt, delegated
from sampan.errors import FailedPrecondition


def spec(*kinds: str) -> dict[str, object]:
    mounts = [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/sys", "type": "sysfs"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup"},
        {"destination": "/dev/pts", "type": "devpts", "options": ["gid=5", "newinstance"]},
    ]
    namespaces = [{"type": kind} for kind in kinds]
    return {"linux": {"namespaces": namespaces, "resources": {}}, "mounts": mounts}


def test_cgroups_are_shown_to_nobody() -> None:
    values = spec("network")
    adapt(values, Request())
    shown = [mount["destination"] for mount in values["mounts"]]  # type: ignore[attr-defined]
    assert shown == ["/proc", "/sys", "/dev/pts"]


def test_with_the_hosts_network_sys_is_the_hosts() -> None:
    values = spec()
    adapt(values, Request(network="host"))
    (sys,) = [m for m in values["mounts"] if m["destination"] == "/sys"]  # type: ignore[attr-defined]
    assert (sys["source"], "ro" in sys["options"]) == ("/sys", True)


def test_limits_that_nobody_may_set_are_refused() -> None:
    if delegated():
        pytest.skip("cgroups are delegated to us here")
    with pytest.raises(FailedPrecondition, match="memory, pids cannot be limited"):
        adapt(spec(), Request(limits=Limits(memory_bytes=1, pids=1)))
