"""Version 2 to 3 to 4: what moves where, and that a second time changes nothing."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import cri, schema
from sampan.engine.migrate import migrated

V2 = {
    "version": 2,
    "grpc": {"address": "/g", "uid": 1, "gid": 2, "tcp_address": "[::1]:9", "tcp_tls_ca": "/ca"},
    "debug": {"address": "/d", "level": "debug"},
    "metrics": {"address": "127.0.0.1:1338", "grpc_histogram": True},
    "disabled_plugins": ["io.containerd.internal.v1.restart"],
    "plugins": {
        "io.containerd.internal.v1.restart": {"interval": "3s"},
        "io.containerd.grpc.v1.cri": {
            "sandbox_image": "pause:1",
            "stream_server_port": "10010",
            "enable_selinux": True,
            "max_concurrent_downloads": 7,
            "systemd_cgroup": False,
            "registry": {"config_path": "/certs"},
            "cni": {"bin_dir": "/b"},
            "containerd": {
                "snapshotter": "native",
                "no_pivot": True,
                "default_runtime_name": "x",
                "runtimes": {"x": {"runtime_type": "io.containerd.x.v1", "snapshotter": "host"}},
                "default_runtime": {"runtime_type": ""},
                "untrusted_workload_runtime": {"runtime_type": "io.containerd.runsc.v1"},
            },
        },
    },
}


def test_every_key_finds_its_place() -> None:
    before = copy.deepcopy(V2)
    table = migrated(V2)
    assert before == V2
    plugins = table["plugins"]
    assert table["version"] == 4
    assert table["debug"] == {"level": "debug"}
    assert not {"grpc", "ttrpc", "metrics"} & table.keys()
    assert plugins[schema.GRPC] == {"address": "/g", "uid": 1, "gid": 2}
    assert plugins[schema.TTRPC] == {"address": "/g.ttrpc", "uid": 1, "gid": 2}
    assert plugins[schema.GRPC_TCP] == {"address": "[::1]:9", "tls_ca": "/ca"}
    assert plugins[schema.DEBUG] == {"address": "/d"}
    assert plugins[schema.METRICS] == {"address": "127.0.0.1:1338"}
    assert plugins["io.containerd.metrics.v1.grpc-prometheus"] == {"grpc_histogram": True}
    assert plugins["io.containerd.monitor.container.v1.restart"] == {"interval": "3s"}
    assert table["disabled_plugins"] == ["io.containerd.monitor.container.v1.restart"]
    assert plugins[cri.STREAMING] == {"stream_server_port": "10010"}
    assert plugins[cri.IMAGES] == {
        "max_concurrent_downloads": 7,
        "registry": {"config_path": "/certs"},
        "pinned_images": {"sandbox": "pause:1"},
        "snapshotter": "native",
        "runtime_platforms": {"x": {"snapshotter": "host"}},
    }
    runtime = plugins[cri.RUNTIME]
    assert set(runtime) == {"enable_selinux", "cni", "containerd"}
    assert runtime["containerd"]["default_runtime_name"] == "x"
    assert set(runtime["containerd"]["runtimes"]) == {"x", "untrusted"}


@given(
    st.sampled_from([2, 3, 4]), st.sets(st.sampled_from([key for key in V2 if key != "version"]))
)
def test_twice_is_once(version: int, keys: set[str]) -> None:
    table = {"version": version, **{key: V2[key] for key in keys}}
    once = migrated(table)
    assert migrated(once) == once
    assert once["version"] == 4
