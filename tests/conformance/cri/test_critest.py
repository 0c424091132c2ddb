"""critest, Kubernetes' own validation suite, against a sampand: no failure.

`SAMPAN_CRITEST_RUNS=10` runs it as often, each time in another order; the seed is printed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
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


def critest() -> str:
    """Return the program: given, installed, or built with Go into the user's cache."""
    given = os.environ.get("CRITEST") or shutil.which("critest")
    if given:
        return given
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.access(go, os.X_OK):
        pytest.skip("critest: neither it nor Go is here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sampan"
    program = cache / f"critest-{VERSION}"
    if program.exists():
        return str(program)
    work = cache / f"build-{os.getpid()}"
    work.mkdir(parents=True)
    package = "sigs.k8s.io/cri-tools/cmd/critest"
    try:
        for command in (
            ["mod", "init", "x"],
            ["get", "-t", f"{package}@{VERSION}"],
            ["test", "-p", "1", "-c", "-o", "critest", package],
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
                pytest.skip(f"critest cannot be built: {done.stderr[-300:]}")
        (work / "critest").rename(program)
    finally:
        shutil.rmtree(work)
    return str(program)


@pytest.fixture
def harness(short_path: Path) -> Iterator[dict[str, str]]:
    """The registry with its images, the mirrors, and a CNI configuration; the environment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    bridge = unique_name("c")[-12:]
    env = {
        **os.environ,
        "CRITEST": critest(),
        "HARNESS_DIR": str(short_path / "h"),
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
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


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
