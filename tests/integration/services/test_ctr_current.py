"""The current ctr, which moves images by the Transfer service, and mounts by templates."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import requires, unique_name
from sampan.testing.registry import DockerRegistry

pytestmark = requires("root", "ctr-2", "busybox")

IMAGE = "example.com/box:1"


@pytest.fixture
def ctr(sampand: Any) -> Any:
    """Our daemon, asked by the current ctr."""

    def run(*words: str) -> str:
        done = subprocess.run(
            ["ctr-2", "-a", str(sampand.address), *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = sampand.log.read_text()[-2000:]
        assert done.returncode == 0, f"ctr {words}: {done.stderr}\n{log}"
        return done.stdout

    return run


def test_import_run_export(ctr: Any, archive: Path, short_path: Path) -> None:
    said = ctr("image", "import", "--base-name", "example.com/box", str(archive))
    assert "saved" in said
    name = unique_name("r")
    said = ctr("run", "--rm", "--cgroup", f"/{name}", IMAGE, name, "/bin/busybox", "echo", "hi")
    assert said == "hi\n"
    ctr("image", "export", str(short_path / "out.tar"), IMAGE)
    members = subprocess.run(
        ["tar", "-tf", short_path / "out.tar"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"oci-layout", "index.json", "manifest.json"} <= set(members)
    ctr("image", "tag", IMAGE, "example.com/box:9")
    ctr("image", "rm", "--sync", IMAGE, "example.com/box:9")
    assert ctr("content", "ls", "-q") == ""


def test_import_by_digest(ctr: Any, archive: Path) -> None:
    ctr("image", "import", "--base-name", "example.com/box", "--digests", str(archive))
    names = ctr("image", "ls", "-q").split()
    assert IMAGE in names
    assert any(name.startswith("example.com/box@sha256:") for name in names)
    ctr("image", "rm", "--sync", *names)


@requires("docker-registry")
@pytest.mark.parametrize("password", [False, True])
def test_push_and_pull(ctr: Any, archive: Path, short_path: Path, password: bool) -> None:
    """With a password, the daemon asks the client for it over a stream."""
    ctr("image", "import", "--base-name", "example.com/box", str(archive))
    with DockerRegistry(short_path / "registry", password=password) as registry:
        user = ("--user", f"{registry.username}:{registry.password}") if password else ()
        name = f"{registry.host}/box:1"
        ctr("image", "tag", IMAGE, name)
        said = ctr("image", "push", "--plain-http", *user, name)
        assert "pushed content" in said
        ctr("image", "rm", "--sync", IMAGE, name)
        said = ctr("image", "pull", "--plain-http", *user, name)
        assert "saved" in said
        assert ctr("snapshot", "ls").count("Committed") == 2
        ctr("image", "rm", "--sync", name)
        # The client's own way, without the Transfer service.
        ctr("image", "pull", "--local", "--plain-http", *user, name)
        ctr("image", "rm", "--sync", name)
    assert ctr("content", "ls", "-q") == ""


def test_it_knows_us(ctr: Any) -> None:
    assert "io.containerd.grpc.v1" in ctr("plugins", "ls")
    assert "Version" in ctr("version")
    assert "overlayfs" in ctr("plugins", "ls", "-d", "id==overlayfs")
    info = ctr("info")
    assert "uuid" in info.lower()
