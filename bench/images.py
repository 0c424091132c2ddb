"""Images made from this host, and how each daemon gets them: from docker-registry on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.daemons import NAMESPACE, Daemon
from sampan.distribution.from_host import Recipe, build_layout
from sampan.testing import SESSION
from sampan.testing.registry import DockerRegistry

BUSYBOX = shutil.which("busybox") or "/usr/bin/busybox"
SMALL = (BUSYBOX,)
BIG_BYTES, BIG_FILES = 390 << 20, 50_000
_TREES = (
    "/usr/share", "/usr/include", "/usr/lib/python3", "/usr/lib/python3.11",
    "/usr/lib/node_modules",
    "/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/local/go/src",
)  # fmt: skip


def publish(registry: DockerRegistry, name: str, groups: tuple[tuple[str, ...], ...]) -> str:
    """Make an image of host files, push it with skopeo, and return its reference."""
    layout = SESSION.folder / f"image-{name}"
    build_layout(layout, Recipe(groups=groups))
    reference = f"{registry.host}/bench/{name}:1"
    subprocess.run(
        ["skopeo", "copy", "--quiet", *registry.skopeo_as("dest"),
         f"oci:{layout}:latest", f"docker://{reference}"],
        check=True,
    )  # fmt: skip
    return reference


def chain_id(name: str) -> str:
    """Return the name of the unpacked image among snapshots."""
    layout = SESSION.folder / f"image-{name}"

    def blob(digest: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        )
        return found

    index = json.loads((layout / "index.json").read_bytes())
    manifest = blob(index["manifests"][0]["digest"])
    config = blob(manifest["config"]["digest"])  # type: ignore[index]
    first, *rest = config["rootfs"]["diff_ids"]  # type: ignore[index]
    chain: str = first
    for diff in rest:
        chain = "sha256:" + hashlib.sha256(f"{chain} {diff}".encode()).hexdigest()
    return chain


def sampan(daemon: Daemon, *args: str) -> None:
    """Run our command line on the root of a daemon; raises RuntimeError with its words."""
    command = [
        sys.executable, "-m", "sampan.cli.main", "--root", str(daemon.folder / "root"),
        "--state", str(daemon.state), "--namespace", NAMESPACE, *args,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"sampan {' '.join(args)}: {done.stderr}{done.stdout}")


def pull(daemon: Daemon, reference: str) -> None:
    """Pull and unpack with the daemon's own command line."""
    if daemon.name == "sampand":
        sampan(daemon, "pull", "--quiet", reference)
    else:
        daemon.ctr("images", "pull", "--plain-http", reference)


def big_groups(bytes_wanted: int, files_wanted: int) -> tuple[tuple[str, ...], ...]:
    """Choose folders of this host with about so many files and bytes, divided into two layers."""
    chosen: list[tuple[str, int]] = []
    size = count = 0
    for tree in _candidates():
        tree_size, tree_count = measure_tree(tree)
        if size + tree_size > bytes_wanted * 1.04 or count + tree_count > files_wanted * 1.04:
            continue
        chosen.append((tree, tree_count))
        size, count = size + tree_size, count + tree_count
    below: list[str] = []
    seen = 0
    for tree, tree_count in chosen:
        if seen < count / 2:
            below.append(tree)
        seen += tree_count
    above = tuple(tree for tree, _ in chosen if tree not in below)
    return (tuple(below), above)


def _candidates() -> Iterable[str]:
    """Folders two levels down, so that the sum comes near what is wanted; always the same order."""
    for top in _TREES:
        if os.path.isdir(top):
            for entry in sorted(os.scandir(top), key=lambda one: one.name):
                if entry.is_dir(follow_symlinks=False):
                    yield entry.path


def measure_tree(tree: str) -> tuple[int, int]:
    size = count = 0
    for folder, folders, files in os.walk(tree):
        count += len(folders) + len(files)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                size += path.stat().st_size
    return size, count
