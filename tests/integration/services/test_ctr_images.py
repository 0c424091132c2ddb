"""ctr 1.6 on images, content, snapshots, leases and namespaces: step by step, ours and Debian's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

pytestmark = requires("root", "ctr", "containerd", "busybox")

IMAGE = "example.com/box:1"


def manifest_of(pair: Any) -> tuple[str, dict[str, Any]]:
    """Return digest and content of the image's manifest."""
    line = next(one for one in pair.ours.ok("image", "ls").splitlines() if IMAGE in one)
    digest = next(word for word in line.split() if word.startswith("sha256:"))
    return digest, json.loads(pair.ours.ok("content", "get", digest))


def test_images(pair: Any) -> None:
    pair.alike(
        [
            pair.step("image ls"),
            pair.step("image ls -q"),
            pair.step("image ls name==example.com/box:1"),
            pair.step("image ls name==nothing"),
            pair.step("image check"),
            pair.step(f"image label {IMAGE} a=b c=d"),
            pair.step("image ls labels.a==b"),
            pair.step(f"image label {IMAGE} a= c="),
            pair.step(f"image tag {IMAGE} example.com/box:2"),
            pair.step(f"image tag {IMAGE} example.com/box:2", code=1),
            pair.step(f"image tag --force {IMAGE} example.com/box:2"),
            pair.step(f"image convert --uncompress --oci {IMAGE} example.com/plain:1"),
            pair.step("image ls"),
            pair.step("image export {folder}/out.tar " + IMAGE),
            pair.step("image export {folder}/out.tar no.such/image:1", code=1),
            pair.step("image rm --sync example.com/plain:1 example.com/box:2"),
            pair.step("image rm no.such/image:1", code=None),
            pair.step("image label no.such/image:1 a=b", code=1),
            pair.step("image ls -q"),
        ]
    )


def test_an_image_is_mounted(pair: Any) -> None:
    for daemon in (pair.ours, pair.theirs):
        target = daemon.folder / "mnt"
        target.mkdir()
        daemon.ok("image", "mount", IMAGE, str(target))
        try:
            assert (target / "bin/busybox").exists()
            assert "mnt" in daemon.ok("snapshot", "ls")
        finally:
            daemon.ok("image", "unmount", "--rm", str(target))
        assert list(target.iterdir()) == []
        assert "mnt" not in daemon.ok("snapshot", "ls")


def test_content(pair: Any) -> None:
    digest, manifest = manifest_of(pair)
    config, layer = manifest["config"]["digest"], manifest["layers"][0]["digest"]
    missing = "sha256:" + "0" * 64
    pair.alike(
        [
            pair.step("content ls -q", sort=True),
            pair.step("content ls", sort=True),
            pair.step(f"content get {digest}"),
            pair.step(f"content get {missing}", code=1),
            pair.step("content get sha256:xyz", code=1),
            pair.step(f"content label {config} k=v"),
            pair.step("content ls -q labels.k==v"),
            pair.step(f"content label {config} k="),
            pair.step("content ls -q labels.k"),
            pair.step("content ingest refname", input="some bytes"),
            pair.step("content active"),
            pair.step("content ingest refname", input="some bytes", code=None),
            pair.step(
                "content ingest --expected-digest "
                "sha256:0000000000000000000000000000000000000000000000000000000000000000 other",
                (r"ingest 'default/other': ", ""),
                input="some bytes",
                code=1,
            ),
            pair.step("content active", (r"other\s+\S+\s+\S+.*", "other ...")),
            pair.step(f"content rm {missing}", code=None),
            pair.step(f"content fetch-object example.com/none {layer}", code=1, err=False),
        ]
    )


def test_snapshots(pair: Any) -> None:
    top = next(
        line.split()[0]
        for line in pair.ours.ok("snapshot", "ls").splitlines()[1:]
        if line.split()[1].startswith("sha256:")
    )
    digest, _ = manifest_of(pair)
    pair.alike(
        [
            pair.step("snapshot ls"),
            pair.step("snapshot tree"),
            pair.step(f"snapshot prepare work {top}"),
            pair.step(f"snapshot prepare work {top}", code=1),
            pair.step("snapshot prepare orphan no-such-parent", code=1),
            pair.step(f"snapshot view look {top}"),
            pair.step("snapshot mounts /target work"),
            pair.step("snapshot mounts /target look"),
            pair.step("snapshot rm look"),
            pair.step("snapshot mounts /target nothing", code=1),
            pair.step("snapshot info work"),
            pair.step("snapshot info nothing", code=1),
            pair.step("snapshot label work a=b"),
            pair.step("snapshot ls labels.a==b"),
            pair.step("snapshot usage work"),
            pair.step("snapshot diff work", (r"(?s)^.*$", "")),
            pair.step(
                f"snapshot rm {top}", (r"remove snapshot .*with child[^:]*", "CHILD"), code=1
            ),
            pair.step("snapshot commit done work"),
            pair.step("snapshot info done"),
            pair.step("snapshot rm done"),
            pair.step("snapshot rm nothing", code=1),
            pair.step(f"snapshot unpack {digest}"),
            pair.step("snapshot --snapshotter native ls"),
            pair.step("snapshot --snapshotter nothing ls", code=1),
            pair.step("snapshot ls"),
        ]
    )


def test_leases(pair: Any) -> None:
    pair.alike(
        [
            pair.step("leases create --id l1 --expires 1h a=b"),
            pair.step("leases create --id l1", code=1),
            pair.step("leases ls", (r"gc.expire=\S+", "gc.expire=WHEN")),
            pair.step("leases ls -q id==l1"),
            pair.step("leases delete --sync l1"),
            pair.step("leases delete l1", code=None),
            pair.step("leases ls -q"),
        ]
    )


def test_namespaces(pair: Any) -> None:
    pair.alike(
        [
            pair.step("namespaces create one a=b"),
            pair.step("namespaces create one", code=1),
            pair.step("namespaces create bad/name", (r"(?s)^.*must match (\S+).*$", r"\1"), code=1),
            pair.step("namespaces ls", sort=True),
            pair.step("namespaces label one c=d a="),
            pair.step("namespaces ls -q", sort=True),
            pair.step("-n one leases create --id keeps"),
            pair.step("namespaces rm one", code=None),
            pair.step("-n one leases delete keeps", code=None),
            pair.step("namespaces rm one", code=None),
            pair.step("namespaces ls", sort=True),
        ]
    )


@requires("docker-registry")
def test_push_fetch_and_pull(pair: Any, short_path: Path) -> None:
    with DockerRegistry(short_path / "registry") as registry:
        for daemon in (pair.ours, pair.theirs):
            name = f"{registry.host}/{daemon.kind}:1"
            daemon.ok("image", "tag", IMAGE, name)
            daemon.ok("image", "push", "--plain-http", name)
            daemon.ok("-n", "other", "content", "fetch", "--plain-http", name)
            assert name in daemon.ok("-n", "other", "image", "ls", "-q")
            assert daemon.ok("-n", "other", "snapshot", "ls").count("Committed") == 0
            daemon.ok("-n", "third", "image", "pull", "--plain-http", name)
            assert daemon.ok("-n", "third", "snapshot", "ls").count("Committed") == 2
            digests = daemon.ok("-n", "third", "content", "ls", "-q").split()
            assert len(digests) == 4
            for namespace in ("other", "third"):
                daemon.ok("-n", namespace, "image", "rm", "--sync", name)
                assert daemon.ok("-n", namespace, "content", "ls", "-q") == ""
                assert "Committed" not in daemon.ok("-n", namespace, "snapshot", "ls")
            daemon.ok("image", "rm", "--sync", name)


def test_content_without_references_is_pruned(pair: Any) -> None:
    for daemon in (pair.ours, pair.theirs):
        digest = daemon.ok("content", "ls", "-q").split()[0]
        daemon.ok("content", "label", digest, "containerd.io/gc.ref.content.x=")
        said = daemon.ok("content", "prune", "references")
        assert "sha256" in said or said == ""
        assert IMAGE in daemon.ok("image", "ls", "-q")
