"""Debian's ctr at work on images: import, unpack, run, push, pull, export, and what GC leaves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sampan.distribution.from_host import Recipe, build_layout
from sampan.testing import requires, unique_name
from sampan.testing.registry import DockerRegistry

pytestmark = requires("root", "ctr", "busybox")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI archive of an image of two layers with busybox."""
    folder = tmp_path_factory.mktemp("image")
    recipe = Recipe(groups=(("/bin/busybox",), ("/usr/bin/env",)), cmd=("/bin/busybox", "true"))
    build_layout(folder / "layout", recipe, name="example.com/box:1")
    subprocess.run(["tar", "-C", folder / "layout", "-cf", folder / "a.tar", "."], check=True)
    return folder / "a.tar"


def test_import_run_export(ctr: Any, archive: Path, short_path: Path) -> None:
    ctr.ok("image", "import", "--base-name", "example.com/box", str(archive))
    name = "example.com/box:1"
    assert name in ctr.ok("image", "ls", "-q")
    cgroup = f"/{unique_name('i')}"
    said = ctr.ok("run", "--rm", "--cgroup", cgroup, name, "c1", "/bin/busybox", "echo", "hello")
    assert said == "hello\n"
    ctr.ok("image", "export", str(short_path / "out.tar"), name)
    listed = subprocess.run(
        ["tar", "-tf", short_path / "out.tar"], capture_output=True, text=True, check=True
    )
    assert "index.json" in listed.stdout.split()
    assert "complete" in ctr.ok("image", "check")
    ctr.ok("image", "label", name, "a=b")
    assert "a=b" in ctr.ok("image", "ls")
    ctr.ok("image", "tag", name, "example.com/box:2")
    ctr.ok("image", "rm", "--sync", name)
    assert ctr.ok("snapshot", "ls").count("Committed") == 2
    ctr.ok("image", "rm", "--sync", "example.com/box:2")
    assert ctr.ok("content", "ls", "-q") == ""
    assert "Committed" not in ctr.ok("snapshot", "ls")


def test_content_and_snapshots(ctr: Any, archive: Path) -> None:
    ctr.ok("image", "import", "--base-name", "example.com/box", str(archive))
    digests = ctr.ok("content", "ls", "-q").split()
    assert len(digests) >= 4
    ctr.ok("content", "label", digests[0], "k=v")
    assert ctr.ok("content", "ls", "-q", "labels.k==v").split() == [digests[0]]
    top = next(
        line.split()[0]
        for line in ctr.ok("snapshot", "ls").splitlines()[1:]
        if line.split()[1].startswith("sha256:")
    )
    ctr.ok("snapshot", "prepare", "work", top)
    assert "overlay" in ctr.ok("snapshot", "mounts", "/target", "work")
    info = json.loads(ctr.ok("snapshot", "info", "work"))
    assert (info["Kind"], info["Parent"]) == ("Active", top)
    ctr.ok("snapshot", "commit", "done", "work")
    refused = ctr.ctr("snapshot", "rm", top)
    assert refused.returncode == 1
    assert ctr.ok("snapshot", "usage", "done").splitlines()[1].startswith("done")
    ctr.ok("snapshot", "rm", "done")
    assert ctr.ctr("snapshot", "info", "done").returncode == 1


@requires("docker-registry")
def test_push_and_pull(ctr: Any, archive: Path, short_path: Path) -> None:
    ctr.ok("image", "import", "--base-name", "example.com/box", str(archive))
    with DockerRegistry(short_path / "registry") as registry:
        name = f"{registry.host}/box:1"
        ctr.ok("image", "tag", "example.com/box:1", name)
        ctr.ok("image", "push", "--plain-http", name)
        ctr.ok("image", "rm", "--sync", name, "example.com/box:1")
        assert ctr.ok("content", "ls", "-q") == ""
        ctr.ok("image", "pull", "--plain-http", name)
    cgroup = f"/{unique_name('p')}"
    said = ctr.ok("run", "--rm", "--cgroup", cgroup, name, "c1", "/bin/busybox", "echo", "hi")
    assert said == "hi\n"
    assert ctr.ok("content", "active").count("\n") <= 1
