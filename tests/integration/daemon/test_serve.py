"""The daemon as its operators meet it: configuration, signals, systemd, metrics, debug socket."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel

from sampan.api.containerd.services.version.v1.version_grpc import VersionStub
from sampan.testing import requires, unique_name

pytestmark = requires("root")

WAIT_S = 20


def get(path: Path, route: str) -> str:
    """Ask an HTTP server on a unix socket, as curl would."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(path))
        sock.sendall(f"GET {route} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with sock.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
    assert b"200 OK" in head, head
    return body.decode()


def until(condition: Any) -> None:
    """Wait for what another process does to a file or a socket."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        select.select([], [], [], 0.01)


def config(daemon: Any, text: str) -> Path:
    path: Path = daemon.folder / "config.toml"
    path.write_text(text)
    daemon.flags += ("--config", str(path))
    return path


@requires("ctr")
def test_an_unchanged_file_of_debians(stopped: Any) -> None:
    """containerd's clients find us where containerd would be; what is containerd's stays whole."""
    address = stopped.folder / "containerd.sock"
    config(
        stopped,
        f'version = 2\nroot = "{stopped.folder}/lib"\nstate = "{stopped.folder}/run"\n'
        f'[grpc]\naddress = "{address}"\n'
        '[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/usr/lib/cni"\n'
        '[plugins."io.containerd.internal.v1.opt"]\npath = "/var/lib/containerd"\n'
        '[plugins."io.containerd.snapshotter.v1.overlayfs"]\nupperdir_label = false\n'
        '[plugins."io.containerd.something.v9.new"]\nkey = 1\n',
    )
    stopped.address = address
    stopped.start_plain()
    assert "Server" in stopped.ok("version")
    assert (stopped.folder / "lib/sampan/metadata/meta.db").exists()
    assert Path(f"{address}.ttrpc").exists()
    said = stopped.log.read_text()
    assert "unknown plugin io.containerd.something.v9.new" in said
    assert "upperdir_label" in said
    stopped.stop()


def test_a_wrong_type_names_file_and_key(stopped: Any) -> None:
    path = config(
        stopped,
        'version = 3\n[plugins."io.containerd.gc.v1.scheduler"]\nmutation_threshold = "x"\n',
    )
    done = subprocess.run(
        [sys.executable, "-m", "sampan.daemon.main", *stopped.flags],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert 'plugins."io.containerd.gc.v1.scheduler".mutation_threshold' in done.stderr
    assert "Traceback" not in done.stderr


def test_config_of_the_command_line(stopped: Any) -> None:
    path = config(stopped, "version = 2\n[debug]\nlevel = 'debug'\n")
    done = subprocess.run(
        [sys.executable, "-m", "sampan.daemon.main", "-c", str(path), "config", "migrate"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == 'version = 4\n\n[debug]\nlevel = "debug"\n'


@requires("busybox", "ctr")
def test_metrics_debug_socket_and_json_logs(stopped: Any, rootfs: Path) -> None:
    metrics = stopped.folder / "m.sock"
    config(
        stopped,
        f'log_format = "json"\n[plugins."io.containerd.server.v1.metrics"]\naddress = "{metrics}"\n'
        '[plugins."io.containerd.metrics.v1.grpc-prometheus"]\ngrpc_histogram = true\n',
    )
    stopped.start()
    stopped.ok(
        *("run", "-d", "--cgroup", f"/{unique_name('m')}", "--rootfs", str(rootfs), "c1"),
        *("/bin/sleep", "1000"),
    )
    said = get(metrics, "/v1/metrics")
    assert 'containerd_build_info_total{revision="sampan"' in said
    assert 'container_pids_current{container_id="c1",namespace="default"} 1' in said
    assert "container_memory_usage_usage_bytes{" in said or "container_memory_usage_bytes{" in said
    assert 'grpc_server_handled_total{grpc_code="OK",grpc_method="Start"' in said
    assert "grpc_server_handling_seconds_bucket{" in said
    assert "process_resident_memory_bytes " in said
    debug = stopped.folder / "state/debug.sock"
    assert json.loads(get(debug, "/tasks"))["default"][0]["status"] == "running"
    assert "thread MainThread" in get(debug, "/stacks")
    plugins = {(one["type"], one["id"]) for one in json.loads(get(debug, "/plugins"))}
    assert ("io.containerd.snapshotter.v1", "overlayfs") in plugins
    assert f'root = "{stopped.folder}/root"' in get(debug, "/config")
    os.kill(stopped.pid, signal.SIGUSR1)
    until(lambda: '"container": "c1"' in stopped.log.read_text())
    lines = [json.loads(line) for line in stopped.log.read_text().splitlines()]
    states = [line for line in lines if line.get("container") == "c1" and "status" in line]
    assert states[-1]["status"] == "running"
    assert states[-1]["namespace"] == "default"
    stopped.ok("task", "rm", "-f", "c1")


def test_sighup_reads_the_file_again(stopped: Any) -> None:
    path = config(stopped, 'hosts_dir = "/a"\n')
    stopped.start()
    debug = stopped.folder / "state/debug.sock"
    assert 'hosts_dir = "/a"' in get(debug, "/config")
    path.write_text('hosts_dir = "/b"\n')
    os.kill(stopped.pid, signal.SIGHUP)
    until(lambda: 'hosts_dir = "/b"' in get(debug, "/config"))
    path.write_text("hosts_dir = 3\n")
    os.kill(stopped.pid, signal.SIGHUP)
    until(lambda: "configuration is not reloaded" in stopped.log.read_text())
    assert 'hosts_dir = "/b"' in get(debug, "/config")
    assert stopped.stop() == 0


async def test_systemd_listens_for_us(stopped: Any) -> None:
    """A client that connects before the daemon starts is answered; the socket outlives us."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(stopped.address))
        listening.listen(16)
        channel = Channel(path=str(stopped.address))
        stopped.start_activated(listening)
        try:
            from google.protobuf.empty_pb2 import Empty

            answer = await VersionStub(channel).Version(Empty(), timeout=WAIT_S)
            assert answer.version
        finally:
            channel.close()
        assert stopped.stop() == 0
        assert stopped.address.exists()


def certificate(key: Path, cert: Path) -> None:
    """Make a key and its own certificate."""
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        capture_output=True,
        timeout=30,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate")


async def test_grpc_over_tcp(stopped: Any, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key, cert = tmp_path / "k.pem", tmp_path / "c.pem"
    certificate(key, cert)
    config(
        stopped,
        f'[plugins."io.containerd.server.v1.grpc-tcp"]\naddress = "127.0.0.1:{port}"\n'
        f'tls_cert = "{cert}"\ntls_key = "{key}"\n',
    )
    stopped.start()
    import ssl

    from google.protobuf.empty_pb2 import Empty

    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    channel = Channel("127.0.0.1", port, ssl=context)
    try:
        assert (await VersionStub(channel).Version(Empty(), timeout=WAIT_S)).version
    finally:
        transport: Any = channel._protocol.connection._transport  # type: ignore[union-attr]
        sock = transport.get_extra_info("socket")
        channel.close()
        transport.abort()
        # TLS takes some rounds of the loop to let its socket go.
        async with asyncio.timeout(WAIT_S):
            while sock.fileno() >= 0:  # noqa: ASYNC110
                await asyncio.sleep(0)


def test_required_plugins_must_work(stopped: Any) -> None:
    uri = "io.containerd.snapshotter.v1.native"
    config(stopped, f'required_plugins = ["{uri}"]\ndisabled_plugins = ["{uri}"]\n')
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sampan.daemon.main", *stopped.flags),
            *("--root", f"{stopped.folder}/root", "--state", f"{stopped.folder}/state"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"required plugin {uri} is disabled" in done.stderr


@requires("ctr")
def test_ctr_installs_where_the_configuration_says(ctr: Any, short_path: Path) -> None:
    """`ctr install` asks introspection for the path of the plugin opt."""
    listed = ctr.ok("plugins", "ls", "-d", "id==opt")
    assert "path" in listed
    assert "/opt/containerd" in listed
