"""The worked examples of plugins: installed as packages, found by entry point, at work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon.conftest import Daemon

from sampan import context
from sampan.distribution.registry.auth import Credentials
from sampan.engine import Engine, Settings, resolve
from sampan.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from sampan.model.descriptor import OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.model.digest import of_bytes
from sampan.testing import require, requires, unique_name

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"
URIS = (
    "io.containerd.snapshotter.v1.memory",
    "io.containerd.content.v1.archived",
    "io.containerd.differ.v1.capped",
    "io.containerd.image-verifier.v1.allowed",
    "io.sampan.credentials.v1.tokens",
    "io.sampan.log-driver.v1.folder",
    "io.sampan.event-sink.v1.journal",
    "io.sampan.spec-mutator.v1.hardened",
)
IMAGE = Descriptor(media_type=OCI_MANIFEST, digest=of_bytes(b"m"), size=1)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, installed into a folder."""
    require("module:pip")
    target = tmp_path_factory.mktemp("packages")
    sources = tmp_path_factory.mktemp("sources")
    names = []
    for one in sorted(EXAMPLES.glob("*/pyproject.toml")):
        shutil.copytree(one.parent, sources / one.parent.name)
        names.append(str(sources / one.parent.name))
    assert len(names) == len(URIS)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--disable-pip-version-check", "--no-compile"),
            *("--target", str(target), *names),
        ],
        check=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    return target


@pytest.fixture
def installed(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process see them, too."""
    monkeypatch.syspath_prepend(str(packages))
    yield
    for name in [name for name in sys.modules if name.startswith("sampan_example_")]:
        del sys.modules[name]


def config(folder: Path) -> Path:
    path = folder / "config.toml"
    (folder / "tokens").mkdir(exist_ok=True)
    path.write_text(
        f"""
disabled_plugins = ["io.containerd.content.v1.content"]
[plugins."io.containerd.snapshotter.v1.memory"]
root_path = "{folder}/memory"
[plugins."io.containerd.content.v1.archived"]
archive = "{folder}/archive"
[plugins."io.containerd.service.v1.diff-service"]
default = ["capped", "walking"]
[plugins."io.containerd.differ.v1.capped"]
largest_bytes = 10
[plugins."io.containerd.image-verifier.v1.allowed"]
patterns = ["registry.example/*"]
[plugins."io.sampan.credentials.v1.tokens"]
folder = "{folder}/tokens"
[plugins."io.sampan.log-driver.v1.folder"]
path = "{folder}/logs"
[plugins."io.sampan.event-sink.v1.journal"]
path = "{folder}/events"
filters = ['topic~="^/tasks/"']
[plugins."io.sampan.spec-mutator.v1.hardened"]
forbidden_capabilities = ["CAP_SYS_ADMIN"]
exempt_namespaces = ["trusted"]
"""
    )
    return path


def settings_of(folder: Path) -> Settings:
    flags = {"root": f"{folder}/root", "state": f"{folder}/state", "config": str(config(folder))}
    return resolve(flags, {})


@requires("root")
@pytest.mark.usefixtures("installed")
async def test_each_does_what_it_says(tmp_path: Path) -> None:
    async with Engine.open(settings_of(tmp_path)) as engine:
        there = {one.registration.uri: one.init_err for one in engine.graph.instances}
        assert {uri: there.get(uri) for uri in URIS} == dict.fromkeys(URIS, "")
        assert "io.containerd.content.v1.content" not in there
        with context.scope("one"):
            await check_content(engine, tmp_path)
            await check_differ(engine)
            mounts = await engine.metadata.snapshotter("memory").prepare("k")
            assert mounts[0].source.startswith(f"{tmp_path}/memory/")
            uri = engine.log_uri("folder", "c1", {"suffix": ".txt"})
            assert uri == f"file://{tmp_path}/logs/one/c1.txt"
            with pytest.raises(InvalidArgument, match="speed"):
                engine.log_uri("folder", "c1", {"speed": "9"})
            with pytest.raises(InvalidArgument, match="no plugin: folder"):
                engine.log_uri("syslog", "c1", {})
        await engine.verify_image("registry.example/app:1", IMAGE)
        with pytest.raises(PermissionDenied, match="matches none of"):
            await engine.verify_image("docker.io/library/busybox:1", IMAGE)
        (tmp_path / "tokens" / "registry.example").write_text("me:kept\n")
        source = engine.credentials(None)
        assert source is not None
        found = await source.lookup("registry.example")
        assert (found.username, found.password) == ("me", "kept")
        assert (await source.lookup("../tokens/registry.example")) == Credentials()


async def check_content(engine: Engine, folder: Path) -> None:
    """What is committed is archived, and stays there when it is collected."""
    content = engine.metadata.content
    async with await content.writer("w") as writer:
        await writer.write(b"kept")
        digest = (await writer.commit()).digest
    copy = folder / "archive/sha256" / digest.partition(":")[2]
    assert copy.read_bytes() == b"kept"
    await engine.metadata.collect()
    with pytest.raises(NotFound):
        await content.info(digest)
    assert copy.exists()


async def check_differ(engine: Engine) -> None:
    content = engine.metadata.content
    data = b"\0" * 1024
    async with await content.writer("layer") as writer:
        await writer.write(data)
        digest = (await writer.commit()).digest
    layer = Descriptor(media_type=OCI_LAYER, digest=digest, size=1)
    with pytest.raises(ResourceExhausted, match="1024 bytes; 10 is the most"):
        await engine.differ().apply(layer, [])


@requires("root", "busybox", "ctr")
def test_a_daemon_with_all_of_them(packages: Path, short_path: Path, rootfs: Path) -> None:
    daemon = Daemon(short_path, "--config", str(config(short_path)))
    daemon.start(PYTHONPATH=os.pathsep.join([str(packages), *sys.path]))
    try:
        check_daemon(daemon, short_path, rootfs)
    finally:
        daemon.close()


def check_daemon(daemon: Any, folder: Path, rootfs: Path) -> None:
    listed = {tuple(line.split()[:2]): line for line in daemon.ok("plugins", "ls").splitlines()}
    for uri in URIS:
        kind, _, name = uri.rpartition(".")
        assert listed[kind, name].split()[-1] == "ok"
    name, cgroup = unique_name("x"), ("--cgroup", f"/{unique_name('x')}", "--null-io")
    status = ("/bin/grep", "NoNewPrivs", "/proc/self/status")
    with_log = ("--log-uri", f"file://{folder}/out")
    daemon.ok("run", "--rm", *cgroup[:2], *with_log, "--rootfs", str(rootfs), name, *status)
    assert (folder / "out").read_text().split() == ["NoNewPrivs:", "1"]
    privileged = ("run", "--rm", *cgroup, "--privileged", "--rootfs", str(rootfs))
    refused = daemon.ctr(*privileged, "p", "/bin/true")
    assert refused.returncode
    assert "asks for CAP_SYS_ADMIN" in refused.stderr
    daemon.ok("container", "rm", "p") if "p" in daemon.ok("c", "ls", "-q") else None
    daemon.ok("-n", "trusted", *privileged, "q", "/bin/true")
    daemon.stop()
    topics = [json.loads(line)["topic"] for line in (folder / "events").read_text().splitlines()]
    assert topics[:4] == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
