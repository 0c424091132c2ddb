"""The rootfs that Create brings: several mounts, long overlays, and nothing left of them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.errors import SampanError
from sampan.linux import mounts
from sampan.rpc.messages.types import Mount
from sampan.testing import requires

NewShim = Callable[..., Untyped]

pytestmark = requires("root", "busybox")


def mounted_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(folder))]


def run_and_delete(shim: Untyped, rootfs: list[Mount], out: Path) -> str:
    shim.create(rootfs=rootfs, stdout=f"file://{out}")
    shim.call("Start", id="c1")
    assert shim.call("Wait", id="c1").exit_status == 0
    shim.call("Delete", id="c1")
    return out.read_text()


@pytest.mark.parametrize("kind", ["native", "forked", pytest.param("runc", marks=requires("runc"))])
def test_mounts_with_targets_are_put_together_and_taken_off(
    new_shim: NewShim, kind: str, folder: Path
) -> None:
    shim = new_shim(kind, folder, "cat", "/usr/word", "/opt/deep/word")
    base = folder / "base"
    (shim.bundle / "rootfs").rename(base)
    for name in ("usr", "opt/deep"):
        (folder / name).mkdir(parents=True)
        (folder / name / "word").write_text(name + "\n")
        (base / name).mkdir(parents=True)
    rootfs = [
        Mount(type="bind", source=str(base), options=["rbind", "rw"]),
        Mount(type="bind", source=str(folder / "usr"), target="/usr", options=["bind", "ro"]),
        Mount(type="bind", source=str(folder / "opt"), target="/opt", options=["rbind", "ro"]),
    ]
    try:
        assert run_and_delete(shim, rootfs, folder / "out") == "usr\nopt/deep\n"
        assert mounted_below(folder) == []
    finally:
        shim.close()


def test_an_overlay_longer_than_a_page_of_options(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "cat", "/word")
    base = folder / "base"
    (shim.bundle / "rootfs").rename(base)
    disk = folder / "layers"  # the temporary folder may itself be an overlay
    disk.mkdir()
    mounts.mount("tmpfs", str(disk), "tmpfs", 0, None)
    try:
        layers = []
        for number in range(100):
            layer = disk / ("layer" + "x" * 60 + str(number))
            layer.mkdir()
            (layer / "word").write_text(f"{number}\n")
            layers.append(str(layer))
        for name in ("upper", "work"):
            (disk / name).mkdir()
        lower = ":".join([*reversed(layers), str(base)])
        assert len(lower) > 4096
        options = [f"lowerdir={lower}", f"upperdir={disk}/upper", f"workdir={disk}/work"]
        rootfs = [Mount(type="overlay", source="overlay", options=options)]
        assert run_and_delete(shim, rootfs, folder / "out") == "99\n"
    finally:
        shim.close()
        mounts.umount2(str(disk), 2)
    assert mounted_below(folder) == []


@pytest.mark.parametrize("kind", ["native", "forked", pytest.param("runc", marks=requires("runc"))])
def test_a_failed_create_leaves_no_mount(new_shim: NewShim, kind: str, folder: Path) -> None:
    shim = new_shim(kind, folder, "nosuchprogram")
    base = folder / "base"
    (shim.bundle / "rootfs").rename(base)
    good = Mount(type="bind", source=str(base), options=["rbind"])
    bad = Mount(type="bind", source=str(folder / "nowhere"), target="/usr", options=["bind"])
    try:
        with pytest.raises(SampanError, match="executable file not found"):
            shim.create(rootfs=[good])
        assert mounted_below(folder) == []
        with pytest.raises(SampanError, match="nowhere"):
            shim.create(rootfs=[good, bad])
        assert mounted_below(folder) == []
    finally:
        shim.close()
    assert os.path.isdir(base / "bin")
