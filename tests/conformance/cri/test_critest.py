"""critest, Kubernetes' own validation suite, against a sampand: no failure.

`SAMPAN_CRITEST_RUNS=10` runs it as often, each time in another order; the seed is printed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.testing import requires, unique_name

HARNESS = Path(__file__).parent / "critest"
VERSION = "v1.36.0"
SKIPPED = "AppArmor"
"""What the kernel may lack; nothing else may be skipped."""
_SUITE_S = 900
_BUILD_S = 1500
_START_S = 30

pytestmark = requires("root", "docker-registry", "jq", "gcc", "ip", "iptables")


def program(name: str) -> str:
    """Return critest or crictl: given, installed, or built with Go into the user's cache."""
    given = os.environ.get(name.upper()) or shutil.which(name)
    if given:
        return given
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.access(go, os.X_OK):
        pytest.skip(f"{name}: neither it nor Go is here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sampan"
    made = cache / f"{name}-{VERSION}"
    if made.exists():
        return str(made)
    work = cache / f"build-{os.getpid()}"
    work.mkdir(parents=True)
    package = f"sigs.k8s.io/cri-tools/cmd/{name}"
    build = ["test", "-c"] if name == "critest" else ["build"]
    try:
        for command in (
            ["mod", "init", "x"],
            ["get", "-t", f"{package}@{VERSION}"],
            [*build, "-p", "1", "-o", name, package],
        ):
            done = subprocess.run(
                [go, *command],
                cwd=work,
                env={**os.environ, "GOFLAGS": "-mod=mod"},
                capture_output=True,
                text=True,
                timeout=_BUILD_S,
                check=False,
            )
            if done.returncode:
                pytest.skip(f"{name} cannot be built: {done.stderr[-300:]}")
        (work / name).rename(made)
    finally:
        shutil.rmtree(work)
    return str(made)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The registry with its images, the mirrors, and a CNI configuration; the environment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    bridge = unique_name("c")[-12:]
    env = {
        **os.environ,
        "CRITEST": program("critest"),
        "HARNESS_DIR": str(tmp_path_factory.mktemp("harness")),
        "REGISTRY_PORT": port,
        "CNI_BRIDGE": bridge,
        "CNI_SUBNET": "10.88.232.0/24",
    }
    try:
        done = _sh(HARNESS / "prepare", env=env, timeout=300)
        if done.returncode:
            pytest.skip(f"the images of critest cannot be built: {done.stdout[-300:]}")
        yield env
    finally:
        _sh(HARNESS / "prepare", "--stop", env=env, timeout=60)


def _sh(*argv: str | Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in argv],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def address(short_path: Path, harness: dict[str, str]) -> Iterator[Path]:
    """The socket of a sampand that knows the mirrors and the network."""
    folder = Path(harness["HARNESS_DIR"])
    config, sock, notify = (short_path / name for name in ("config.toml", "d.sock", "n"))
    config.write_text(
        f"""
        root = "{short_path}/root"
        state = "{short_path}/state"
        address = "{sock}"
        hosts_dir = "{folder}/certs.d"
        [plugins."io.containerd.cri.v1.runtime".cni]
        conf_dir = "{folder}/cni/net.d"
        """
    )
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        (short_path / "log").open("wb") as log,
    ):
        ready.bind(str(notify))
        ready.settimeout(_START_S)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "sampan.daemon.main", "--config", str(config)],
            env={**os.environ, "NOTIFY_SOCKET": str(notify)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            assert ready.recv(100).startswith(b"READY=1")
            yield sock
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
            link = harness["CNI_BRIDGE"]
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)


def test_no_spec_fails(address: Path, harness: dict[str, str]) -> None:
    results = Path(harness["HARNESS_DIR"]) / "report/results.txt"
    for turn in range(int(os.environ.get("SAMPAN_CRITEST_RUNS", "1"))):
        seed = "1" if not turn else str(secrets.randbelow(1 << 31))
        sys.stdout.write(f"critest: seed {seed}\n")
        done = _sh(HARNESS / "run", address, env={**harness, "SEED": seed}, timeout=_SUITE_S)
        assert done.returncode == 0, done.stdout[-4000:]
        lines = [line.split("\t") for line in results.read_text().splitlines()]
        skipped = [line[2] for line in lines if line[0] == "SKIP" and SKIPPED not in line[2]]
        assert skipped == []
        assert sum(line[0] == "PASS" for line in lines) > 100


class Crictl:
    """crictl as a person calls it."""

    def __init__(self, address: Path, folder: Path) -> None:
        self._argv = [program("crictl"), "--config", os.devnull, "-r", f"unix://{address}"]
        self.folder = folder

    def __call__(self, *argv: str, input: str | None = None) -> str:
        done = subprocess.run(
            [*self._argv, *argv],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout.strip()

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._argv, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def file(self, name: str, **values: object) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(values))
        return str(path)


def _reads(process: subprocess.Popen[str], wanted: str) -> None:
    """Read lines until one holds what is wanted."""
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            return
    raise AssertionError(f"{wanted!r} did not come")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10)


def test_crictl(address: Path, harness: dict[str, str], short_path: Path) -> None:
    crictl = Crictl(address, short_path)
    image = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
    web = "registry.k8s.io/e2e-test-images/nginx:1.14-2"
    pod_file = crictl.file(
        "pod",
        metadata={"name": "p", "namespace": "ns", "uid": "u"},
        log_directory=str(short_path / "logs"),
        linux={"security_context": {"namespace_options": {"pid": 1}}},
    )
    events = crictl.start("events")
    for one in (image, web):
        crictl("pull", one)
    assert "busybox" in crictl("images")
    pod = crictl("runp", pod_file)
    script = "echo begin; while read line; do echo got $line; done; sleep 1000"
    shell = crictl.file(
        "shell",
        metadata={"name": "shell"},
        image={"image": image},
        command=["sh", "-c", script],
        log_path="shell.log",
        stdin=True,
        linux={},
    )
    container = crictl("create", pod, shell, pod_file)
    crictl("start", container)
    _reads(events, "CONTAINER_STARTED_EVENT")
    _end(events)
    assert container[:13] in crictl("ps")
    follow = crictl.start("logs", "-f", container)
    _reads(follow, "begin")
    attach = crictl.start("attach", "-i", container)
    assert attach.stdin is not None
    assert attach.stdout is not None
    for number in range(200):  # until the client has connected, nobody hears
        attach.stdin.write(f"hello {number}\n")
        attach.stdin.flush()
        if select.select([attach.stdout], [], [], 0.1)[0]:
            break
    _reads(attach, "got hello")
    _reads(follow, "got hello")
    _end(attach)
    _end(follow)
    assert crictl("exec", container, "echo", "there") == "there"
    assert crictl("exec", "-s", container, "echo", "there").startswith("there")
    assert crictl("exec", "-i", container, "cat", input="typed") == "typed"
    nginx = crictl.file("nginx", metadata={"name": "web"}, image={"image": web}, linux={})
    server = crictl("create", pod, nginx, pod_file)
    crictl("start", server)
    forward = crictl.start("port-forward", pod, ":80")
    assert forward.stdout is not None
    line = forward.stdout.readline()
    port = int(re.findall(r":(\d+) ->", line)[0])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.status == 200
    _end(forward)
    for command in ("stats", "statsp", "metricsp", "metricdescs", "imagefsinfo", "info", "version"):
        assert crictl(command)
    assert json.loads(crictl("inspect", container))["status"]["state"] == "CONTAINER_RUNNING"
    assert json.loads(crictl("inspectp", pod))["status"]["network"]["ip"]
    crictl("update", "--memory", str(64 << 20), container)
    status = json.loads(crictl("inspect", container))["status"]
    assert status["resources"]["linux"]["memoryLimitInBytes"] == str(64 << 20)
    crictl("stop", "-t", "0", container)
    crictl("rm", container)
    crictl("stopp", pod)
    crictl("rmp", pod)
    assert pod[:13] not in crictl("pods")
    crictl("rmi", "--all")
