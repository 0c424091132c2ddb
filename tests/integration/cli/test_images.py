"""Images from this host, through an archive, into containers."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from sampan.testing import requires

pytestmark = [requires("root")]
Cli = Any


def test_from_host_run_save_remove_load(sampan: Cli, tmp_path: Path) -> None:
    sampan.ok("image", "from-host", "tools", "sh", "cat", "id")
    assert "docker.io/library/tools" in sampan.ok("images")
    assert sampan.ok("run", "--rm", "-u", "1000:5", "tools", "id", "-u") == "1000\n"
    archive = tmp_path / "t.tar"
    sampan.ok("save", "-o", str(archive), "tools")
    with tarfile.open(archive) as file:
        assert {"index.json", "manifest.json", "oci-layout"} <= set(file.getnames())
    sampan.ok("tag", "tools", "other:v1")
    sampan.ok("rmi", "tools", "other:v1")
    assert sampan.ok("images", "-q") == ""
    assert "tools:latest" in sampan.ok("load", "-i", str(archive))
    assert sampan.ok("run", "--rm", "tools", "cat", "/etc/passwd").startswith("root:")


def test_an_image_in_use_stays(sampan: Cli) -> None:
    sampan.ok("image", "from-host", "tools", "sh")
    sampan.ok("create", "--name", "user", "tools", "sh")
    assert sampan("rmi", "tools").returncode == 1
    sampan.ok("rm", "user")
    sampan.ok("rmi", "tools")
