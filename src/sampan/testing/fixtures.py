"""Fixtures that any room may use; see the package's docstring."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.testing.bundle import Bundle
from sampan.testing.requirements import require
from sampan.testing.rootfs import build_busybox_rootfs, copy_rootfs
from sampan.testing.runtimes import ENTRIES, Runtime, available
from sampan.testing.session import SESSION


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A private folder whose path leaves room for a socket's name in 107 bytes."""
    path = SESSION.new_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def root(short_path: Path) -> Path:
    """What `--root` is to be: a private folder, 0711."""
    path = short_path / "root"
    path.mkdir(mode=0o711)
    return path


@pytest.fixture
def state(short_path: Path) -> Path:
    """What `--state` is to be: a private folder, 0711."""
    path = short_path / "state"
    path.mkdir(mode=0o711)
    return path


@pytest.fixture(scope="session")
def busybox() -> Path:
    """A busybox rootfs, one for the session: not to be written to."""
    require("busybox")
    return build_busybox_rootfs(SESSION.folder / "rootfs-busybox")


@pytest.fixture
def rootfs(busybox: Path, short_path: Path) -> Path:
    """A busybox rootfs of the test's own."""
    return copy_rootfs(busybox, short_path / "rootfs")


@pytest.fixture
def make_bundle(busybox: Path, short_path: Path) -> Callable[[], Bundle]:
    """A function that makes one more bundle over a busybox rootfs of its own."""

    def make() -> Bundle:
        name = SESSION.unique_name("b")
        path = short_path / name
        path.mkdir(mode=0o711)
        copy_rootfs(busybox, path / "rootfs")
        return Bundle(path, name)

    return make


@pytest.fixture
def bundle(make_bundle: Callable[[], Bundle]) -> Bundle:
    """A bundle over a busybox rootfs of its own."""
    return make_bundle()


@pytest.fixture
def make_runtime(short_path: Path) -> Iterator[Callable[[str], Runtime]]:
    """A function that returns a driver by its name, with a state folder of its own."""
    made: list[Runtime] = []

    def make(name: str) -> Runtime:
        folder = short_path / f"state-{name}-{len(made)}"
        folder.mkdir(mode=0o711)
        made.append(Runtime(name, ENTRIES[name](), folder))
        return made[-1]

    yield make
    for runtime in made:
        runtime.close()


@pytest.fixture(params=available())
def runtime(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    """Each OCI runtime in turn: ours in both entries, and the peers that keep the test honest."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    name: str = request.param
    require(*([] if name.startswith("sampan") else [name]))
    return make_runtime(name)
