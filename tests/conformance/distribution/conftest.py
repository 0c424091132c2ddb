"""One small image for all, and registries in three configurations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.client import Client
from sampan.distribution.from_host import Recipe, build_layout
from sampan.testing.registry import DockerRegistry, LyingRegistry

from .place import Layout, place


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Three layers; the second has more than a chunk."""
    folder = tmp_path_factory.mktemp("image") / "layout"
    groups = (("cat",), ("busybox", "/usr/lib/python3.11/json"), ("/etc/debian_version",))
    build_layout(folder, Recipe(groups=groups))
    return Layout(folder)


@pytest.fixture(params=["http", "tls", "password"])
def registry(
    request: pytest.FixtureRequest, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerRegistry]:
    kind: str = request.param
    with DockerRegistry(
        short_path / "registry", tls=kind == "tls", password=kind == "password"
    ) as running:
        running.docker_config()
        monkeypatch.setenv("DOCKER_CONFIG", str(short_path / "registry"))
        yield running


@pytest.fixture
async def client(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client of a fresh root, which reaches what needs neither authority nor password."""
    async with place(short_path) as opened:
        yield opened


@pytest.fixture
async def liar() -> AsyncIterator[LyingRegistry]:
    async with LyingRegistry() as registry:
        yield registry
