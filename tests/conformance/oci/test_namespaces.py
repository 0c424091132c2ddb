"""Namespaces: new, joined, and of a user's own."""

from __future__ import annotations

import os
from collections.abc import Callable

from sampan.testing import Bundle, Runtime, requires

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@requires("root", "busybox")
def test_two_containers_share_a_pods_pids_and_network(
    runtime: Runtime, make_bundle: Callable[[], Bundle]
) -> None:
    pause, member = make_bundle(), make_bundle()
    runtime.create(pause, "sleep", "100")
    runtime.start(pause.id)
    first = runtime.pid(pause.id)
    shared = [
        {"type": "pid", "path": f"/proc/{first}/ns/pid"},
        {"type": "network", "path": f"/proc/{first}/ns/net"},
    ]
    own = [{"type": kind} for kind in ("mount", "uts", "ipc")]
    runtime.create(member, "sleep", "101", namespaces=[*shared, *own])
    runtime.start(member.id)
    second = runtime.pid(member.id)
    for kind in ("pid", "net"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == os.readlink(f"/proc/{second}/ns/{kind}")
    assert os.readlink(f"/proc/{first}/ns/mnt") != os.readlink(f"/proc/{second}/ns/mnt")
    assert "sleep 100" in runtime.exec(member.id, "ps").stdout
    # The namespace is the pause container's: the member must be ended by itself.
    runtime.kill(member.id)
    assert runtime.wait(member.id) == 137
    assert runtime.state(pause.id)["status"] == "running"


@requires("root", "busybox")
def test_user_namespace_and_exec_into_it(runtime: Runtime, bundle: Bundle) -> None:
    for path in (bundle.path, bundle.path.parent, bundle.rootfs):
        path.chmod(0o755)
    kinds = ("pid", "ipc", "uts", "mount", "network", "user")
    namespaces = [{"type": kind} for kind in kinds]
    name = runtime.create(
        bundle, "sleep", "100", namespaces=namespaces, uid_mappings=IDS, gid_mappings=IDS
    )
    runtime.start(name)
    assert os.stat(f"/proc/{runtime.pid(name)}").st_uid == 100000
    result = runtime.exec(name, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert result.stdout.split() == ["0", "0", "100000", "65536"]
