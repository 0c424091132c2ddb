"""Proxy plugins in both directions: a sampand serves, and an engine uses it as containerd would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.daemon.conftest import Daemon, stopped

from sampan import context
from sampan.engine import Engine, resolve
from sampan.engine.hosting import HostedStore
from sampan.engine.proxies import registrations
from sampan.engine.proxies.content import ProxyContent
from sampan.engine.proxies.sandbox import ProxySandboxer
from sampan.engine.proxies.snapshots import ProxySnapshotter
from sampan.engine.schema import ProxyPlugin
from sampan.errors import InvalidArgument, NotFound, SampanError, Unavailable
from sampan.model.descriptor import OCI_LAYER, Descriptor
from sampan.model.digest import Digest
from sampan.storage.content import BareStore, Store
from sampan.testing import require, requires, unique_name
from sampan.testing.content_suite import ContentSuite
from sampan.testing.snapshot_suite import SnapshotSuite, read, write

__all__ = ["stopped"]

pytestmark = requires("root")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that is somebody else's backend."""
    require("root")
    folder = tmp_path_factory.mktemp("b")
    config = folder / "config.toml"
    # What nobody labels is garbage soon, and a suite's blobs have no labels.
    config.write_text(
        '[plugins."io.containerd.gc.v1.scheduler"]\nmutation_threshold = 0\nstartup_delay = "1h"\n'
    )
    daemon = Daemon(folder, "--config", str(config))
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture
def fresh(stopped: Daemon) -> Daemon:
    """One of the test's own: its zygote starts with the first worker."""
    stopped.start()
    return stopped


def plugin(kind: str, **exports: str) -> ProxyPlugin:
    able = ("rebase",) if kind == "snapshot" else ()
    exports = {"namespace": unique_name("p"), **exports}
    return ProxyPlugin(type=kind, exports=exports, capabilities=able)


class TestSnapshots(SnapshotSuite):
    """Everything a snapshotter must do, done by another process."""

    @pytest.fixture
    async def snapshotter(self, backend: Daemon) -> AsyncIterator[ProxySnapshotter]:
        one = plugin("snapshot", snapshotter="overlayfs")
        made = ProxySnapshotter("far", one, str(backend.address))
        yield made
        await made.close()


class TestContent(ContentSuite):
    """Everything a content store must do, done by another process."""

    @pytest.fixture
    async def store(self, backend: Daemon) -> AsyncIterator[ProxyContent]:
        # A namespace of its own would still share blobs with those of other tests.
        made = ProxyContent("far", plugin("content"), str(backend.address))
        yield made
        async for info in made.walk():
            await made.delete(info.digest)
        await made.close()
        backend.ok("content", "prune", "references")


def engine_config(folder: Path, address: Path) -> Path:
    path = folder / "engine.toml"
    path.write_text(
        "\n".join(
            f'[proxy_plugins.far-{kind}]\ntype = "{kind}"\naddress = "{address}"\n'
            f'[proxy_plugins.far-{kind}.exports]\nnamespace = "{unique_name("e")}"\n'
            'snapshotter = "overlayfs"\nsandboxer = "shim"'
            for kind in ("snapshot", "content", "diff", "sandbox")
        )
        + '\n[plugins."io.containerd.service.v1.diff-service"]\ndefault = ["far-diff"]\n'
    )
    text = path.read_text()
    path.write_text('disabled_plugins = ["io.containerd.content.v1.content"]\n' + text)
    return path


async def put(store: Store, data: bytes) -> Digest:
    async with await store.writer(f"put-{len(data)}") as writer:
        await writer.write(data)
        return (await writer.commit()).digest


async def test_an_engine_on_them(backend: Daemon, tmp_path: Path) -> None:
    """Metadata's views stand on foreign stores; a collection empties these, too."""
    config = engine_config(tmp_path, backend.address)
    flags = {"root": f"{tmp_path}/r", "state": f"{tmp_path}/s", "config": str(config)}
    async with Engine.open(resolve(flags, {})) as engine:
        kinds = {str(one.registration.type): one for one in engine.graph.instances if one.ok}
        assert kinds["io.containerd.sandbox.controller.v1"].registration.id == "far-sandbox"
        with context.scope("one"):
            metadata, view = engine.metadata, engine.metadata.snapshotter("far-snapshot")
            digest = await put(metadata.content, b"far away")
            async with await metadata.content.reader(digest) as reader:
                assert await reader.read_at(4, 4) == b"away"
            write(await view.prepare("k"), a="1")
            await view.commit("done", "k", labels={"containerd.io/gc.root": "x"})
            assert read(await view.view("v", "done")) == {"a": "1"}
            await metadata.collect()
            with pytest.raises(NotFound):
                await metadata.content.info(digest)
            assert [info.name async for info in view.walk()] == ["done"]
            bare = kinds["io.containerd.content.v1"].value
            assert isinstance(bare, ProxyContent)
            assert [info.digest async for info in bare.walk()] == []
            # Written again, it is there again.
            assert await put(metadata.content, b"far away") == digest
            assert (await metadata.content.info(digest)).size == 8


async def test_differ(fresh: Daemon, tmp_path: Path) -> None:
    """The other side applies a layer of its own content onto mounts that we hand over."""
    config = engine_config(tmp_path, fresh.address)
    flags = {"root": f"{tmp_path}/r", "state": f"{tmp_path}/s", "config": str(config)}
    async with Engine.open(resolve(flags, {})) as engine:
        content = engine.graph.one("io.containerd.content.v1")
        with context.scope("one"):
            differ = engine.differ()
            view = engine.metadata.snapshotter("overlayfs")
            write(await view.prepare("up"), hello="world")
            namespace = engine.settings.proxy_plugins["far-diff"].exports["namespace"]
            engine_content = plugin("content", namespace=namespace)
            theirs = ProxyContent("theirs", engine_content, str(fresh.address))
            made = await differ.compare([], await view.mounts("up"), media_type=OCI_LAYER)
            assert (await theirs.info(made.digest)).size == made.size
            target = await view.prepare("down")
            await differ.apply(Descriptor(media_type=OCI_LAYER, digest=made.digest, size=1), target)
            assert read(target) == {"hello": "world"}
            await theirs.close()
    assert isinstance(content, ProxyContent)


async def test_sandboxer(fresh: Daemon) -> None:
    made = ProxySandboxer("far", plugin("sandbox", sandboxer="shim"), str(fresh.address))
    try:
        with pytest.raises(SampanError):
            await made.start("none")
        name = unique_name("s")
        await made.create(name, spec=json.dumps({"ociVersion": "1.1.0"}).encode())
        started = await made.start(name)
        assert started.pid > 0
        assert (await made.status(name)).state == "SANDBOX_READY"
        assert (await made.platform(name)).os == "linux"
        await made.stop(name)
        assert (await made.wait(name)).status == 0
        await made.shutdown(name)
        with pytest.raises(NotFound):
            await made.shutdown(name)
    finally:
        await made.close()


async def test_nobody_is_there(tmp_path: Path) -> None:
    made = ProxySnapshotter("far", plugin("snapshot"), str(tmp_path / "none.sock"))
    with pytest.raises(Unavailable, match=r"proxy plugin far is not reached at .*none\.sock"):
        await made.stat("x")
    await made.close()


@pytest.mark.parametrize(
    ("one", "key"),
    [
        (ProxyPlugin(type="speed", address="/x"), r"proxy_plugins\.p\.type"),
        (ProxyPlugin(type="diff", address="x:1"), r"proxy_plugins\.p\.address"),
    ],
)
def test_wrong_ones_are_refused(one: ProxyPlugin, key: str) -> None:
    with pytest.raises(InvalidArgument, match=key):
        list(registrations({"p": one}))


async def test_a_hosted_store_hides_what_it_has_not_deleted_yet(backend: Daemon) -> None:
    store = ProxyContent("far", plugin("content"), str(backend.address))
    host = HostedStore(store)
    assert isinstance(host, BareStore)
    assert not isinstance(store, BareStore)
    digest = await put(store, b"doomed")
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, host.size_of, digest) == 6
    assert await loop.run_in_executor(None, host.trash, digest)
    assert await loop.run_in_executor(None, host.size_of, digest) is None
    assert [info async for info in host.walk()] == []
    for call in (host.info, host.reader, host.delete):
        with pytest.raises(NotFound):
            await call(digest)
    assert (await store.info(digest)).size == 6
    # Whoever writes it again waits for its deletion, and then has it.
    assert await put(host, b"doomed") == digest
    assert await loop.run_in_executor(None, host.size_of, digest) == 6
    await loop.run_in_executor(None, host.trash, digest)
    await host.cleanup()
    with pytest.raises(NotFound):
        await store.info(digest)
    await store.close()
