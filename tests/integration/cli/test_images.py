"""Images by the command line: made here, kept in archives, moved through a real registry."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

from .conftest import Sampan


def test_images_are_listed_tagged_and_removed(sampan: Sampan, small: str) -> None:
    sampan("tag", small, "other/name:2").ok()
    rows = [json.loads(line) for line in sampan("images", "--format", "json").ok().splitlines()]
    assert {(row["Repository"], row["Tag"]) for row in rows} == {
        ("t/small", "1"),
        ("other/name", "2"),
    }
    assert len({row["ID"] for row in rows}) == 1
    assert (
        sampan("images", "--format", "{{.Repository}}:{{.Tag}}", "other/*").ok() == "other/name:2\n"
    )
    sampan("rmi", small, "other/name:2").ok()
    assert sampan("images", "-q").ok() == ""
    blobs = [p for p in sampan.root.rglob("blobs/sha256/*") if p.is_file()]
    assert blobs == [], "content that nothing refers to is collected"


def test_an_image_in_use_stays_unless_forced(sampan: Sampan, small: str) -> None:
    sampan("create", "--name", "c", small).ok()
    refused = sampan("rmi", small)
    assert refused.status == 1
    assert "used by container" in refused.stderr
    sampan("rmi", "-f", small).ok()
    # Its snapshots stay with the container that stands on them.
    assert sampan("start", "-a", "c").ok() == "default\n"


@pytest.mark.parametrize("how", [(), ("--format", "oci"), ("--directory",)])
def test_save_and_load_are_inverse(
    sampan: Sampan, small: str, how: tuple[str, ...], tmp_path: Path
) -> None:
    before = sampan("images", "--digests", "--format", "{{.Digest}}").ok()
    target = str(tmp_path / "saved")
    sampan("save", *how, "-o", target, small).ok()
    sampan("rmi", small).ok()
    assert "t/small:1" in sampan("load", "-i", target).ok()
    assert sampan("images", "--digests", "--format", "{{.Digest}}").ok() == before
    assert sampan("run", "--rm", small).ok() == "default\n"


def test_garbage_is_refused_by_load(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive at all" * 1000)
    result = sampan("load", "-i", str(tmp_path / "x.tar"))
    assert result.status == 1
    assert result.stderr.count("\n") == 1
    assert sampan("load", "-i", str(tmp_path / "none")).status == 1


@requires("docker-registry", "openssl", "htpasswd")
@pytest.mark.parametrize("kind", ["http", "tls+password"])
def test_push_and_pull_through_a_registry(
    sampan: Sampan, small: str, tmp_path: Path, kind: str
) -> None:
    with DockerRegistry(
        tmp_path / "registry", tls="tls" in kind, password="pass" in kind
    ) as server:
        sampan.environ = {
            "SAMPAN_HOSTS_DIR": str(server.certs_d),
            "DOCKER_CONFIG": str(server.docker_config().parent),
        }
        name = f"{server.host}/t/small:1"
        assert "digest: sha256:" in sampan("push", small, name).ok()
        sampan("rmi", small).ok()
        pulled = sampan("pull", name)
        assert pulled.ok().splitlines()[-1] == name
        assert "unpacked" in pulled.stderr
        assert sampan("run", "--rm", name).ok() == "default\n"
        assert "default" in sampan("run", "--rm", "--pull", "always", name).ok()
        missing = sampan("pull", f"{server.host}/t/none:1")
        assert missing.status == 1
        assert "t/none" in missing.stderr
        other = sampan("pull", "--platform", "linux/s390x", name)
        assert other.status == 0, "a manifest without an index is what there is"


def test_a_registry_that_hangs_meets_a_deadline(sampan: Sampan) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sampan.environ = {"SAMPAN_REGISTRY_TIMEOUT": "1"}
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        result = sampan("pull", f"{host}/x:1")
    assert result.status == 1
    assert host in result.stderr
    assert result.stderr.count("\n") == 1
    assert sampan("images", "-q").ok() == ""


def test_a_registry_that_is_not_there_is_one_sentence(sampan: Sampan) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        host = f"127.0.0.1:{gone.getsockname()[1]}"
    result = sampan("run", "--rm", f"{host}/x:1", "true")
    assert result.status == 125
    assert "refused" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_image_for_another_platform_only_says_so(sampan: Sampan, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    sampan("image", "from-host", "t/x:1", "true").ok()
    sampan("save", "--directory", "--format", "oci", "-o", str(layout), "t/x:1").ok()
    sampan("rmi", "t/x:1").ok()
    _relabel(layout, "s390x")
    sampan("load", "-i", str(layout)).ok()
    result = sampan("run", "--rm", "t/x:1", "true")
    assert result.status == 125
    assert "s390x" in result.stderr
    assert sampan.containers() == []


def _relabel(layout: Path, architecture: str) -> None:
    """Make the layout's only image one for another processor, consistently."""
    import hashlib

    def put(document: object, old: dict[str, object]) -> None:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(data)
        old["digest"], old["size"] = f"sha256:{digest}", len(data)

    index = json.loads((layout / "index.json").read_text())
    entry = index["manifests"][0]
    manifest = json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_text())
    config = json.loads((layout / "blobs/sha256" / manifest["config"]["digest"][7:]).read_text())
    config["architecture"] = architecture
    put(config, manifest["config"])
    put(manifest, entry)
    entry.pop("platform", None)
    (layout / "index.json").write_text(json.dumps(index))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    sampan: Sampan, small_archive: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=True)
    try:
        full = Sampan(disk / "root", sampan.state.with_name("full-state"))
        result = full("load", "-i", str(small_archive))
        assert result.status == 1
        assert "space" in result.stderr
        assert result.stderr.count("\n") == 1
        assert [p for p in full.root.rglob("blobs/sha256/*") if p.is_file()] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_labels_of_an_image_are_content(sampan: Sampan, tmp_path: Path) -> None:
    """CVE-2026-53488: a label that other programs obey must do nothing here."""
    victim = tmp_path / "victim"
    label = f"containerd.io/restart.loguri=binary:///usr/bin/touch?{victim}"
    paths = ("sh", "id")
    flags = ("-l", label, "-l", "sampan/rm=true", "-l", "sampan/tty=true", "--cmd", "sh -c id")
    sampan("image", "from-host", *flags, "t/label:1", *paths).ok()
    sampan("run", "--name", "c", "t/label:1").ok()
    assert len(sampan.containers()) == 1
    assert not victim.exists()
    labels = json.loads(sampan("inspect", "c").ok())[0]["Config"]["Labels"]
    assert not any(key.startswith(("containerd.io/", "sampan/")) for key in labels)


def test_settings_come_from_the_environment(sampan: Sampan) -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "sampan.cli.main", "info", "--format", "{{.Root}} {{.State}}"],
        env={**os.environ, "SAMPAN_ROOT": str(sampan.root), "SAMPAN_STATE": str(sampan.state)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"{sampan.root} {sampan.state}\n"
