"""Row 19: what is not the container's own, or smuggles something, is refused."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.model.runtime.linux import Linux, Namespace
from sampan.oci.plan.sysctl import plan_sysctls


def plan(name: str, value: str = "1") -> list[tuple[bytes, bytes]]:
    own = tuple(Namespace(type=kind) for kind in ("network", "ipc"))
    return plan_sysctls(Linux(namespaces=own, sysctl={name: value}))


def test_dots_and_slashes() -> None:
    assert plan("net.ipv4.ip_forward") == [(b"net/ipv4/ip_forward", b"1")]
    assert plan("net/ipv4/conf/eth0.1/forwarding")[0][0] == b"net/ipv4/conf/eth0.1/forwarding"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.core_pattern", "|/x"),
        ("net.ipv4.ip_forward", "1+kernel.core_pattern=|/x\n"),
        ("net/../kernel/core_pattern", "1"),
        ("net.ipv4.ip\nforward", "1"),
        ("kernel.hostname", "x"),
        ("kernel.domainname", "x"),
        ("", "1"),
    ],
)
def test_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument):
        plan(name, value)
