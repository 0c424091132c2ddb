"""An engine opened, reloaded and closed: its graph, its folders, and why it cannot be opened."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from sampan.engine import Engine, Settings, builtins, core, graph, resolve, sections
from sampan.engine.discovery import builtin
from sampan.engine.schema import Scheduler
from sampan.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from sampan.plugin import InitContext, PluginType, Registration, Skip
from sampan.testing import requires

pytestmark = requires("root")


def settings_of(folder: Path, text: str = "") -> Settings:
    flags = {"root": f"{folder}/root", "state": f"{folder}/state"}
    (folder / "c.toml").write_text(text)
    return resolve({**flags, "config": str(folder / "c.toml")}, {})


async def test_the_graph_holds_all_three_planks(tmp_path: Path) -> None:
    async with Engine.open(settings_of(tmp_path)) as engine:
        there = [one.registration.uri for one in engine.graph.instances]
        assert core.METADATA_URI in there
        assert there.index("io.containerd.content.v1.content") < there.index(core.METADATA_URI)
        assert there.index(core.METADATA_URI) < there.index("io.containerd.differ.v1.walking")
        assert engine.graph.one(str(core.EVENTS)) is engine.events
        assert engine.metadata is engine.graph.one("io.containerd.metadata.v1")
        assert await engine.identity() == await engine.identity()
        for folder in (engine.settings.root, engine.settings.state):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    # Closed once, in order: nothing holds the database any more.
    assert os.listdir(tmp_path / "root/owners") == []


def test_builtins_can_be_imported() -> None:
    assert len(builtin()) >= len(builtins.PLUGINS)


async def test_sharing_is_one_of_two(tmp_path: Path) -> None:
    table = '[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = '
    with pytest.raises(InvalidArgument, match="'some' is none of shared, isolated"):
        async with Engine.open(settings_of(tmp_path, table + '"some"')):
            pass
    async with Engine.open(settings_of(tmp_path, table + '"isolated"')) as engine:
        found = {one.registration.uri: one.exports for one in engine.graph.instances}
        assert found[core.METADATA_URI] == {"policy": "isolated"}


async def test_a_plugin_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no plugin 'io\.x\.v1\.y'"):
        async with Engine.open(settings_of(tmp_path, '[plugins."io.x.v1.y"]\na = 1\n')):
            pass


async def test_somebody_elses_root_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.root.mkdir()
    os.chown(settings.root, 12345, 12345)
    with pytest.raises(PermissionDenied, match="belongs to user 12345"):
        async with Engine.open(settings):
            pass


async def test_reloading_takes_over_what_may_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine.open(settings_of(tmp_path)) as engine:
        heard: list[Settings] = []

        async def listen(settings: Settings) -> None:
            heard.append(settings)

        async def fail(settings: Settings) -> None:
            raise FailedPrecondition("no folder")

        engine.on_reload(fail)
        engine.on_reload(listen)
        table = '[plugins."io.containerd.gc.v1.scheduler"]\nmutation_threshold = 7\n'
        changed = f'hosts_dir = "/h"\nroot = "/elsewhere"\n{table}'
        with caplog.at_level(logging.ERROR):
            await engine.reload(settings_of(tmp_path, changed))
        assert "no folder" in caplog.text
        assert heard == [engine.settings]
        assert engine.settings.hosts_dir == Path("/h")
        assert engine.settings.root == tmp_path / "root"
        uri = "io.containerd.gc.v1.scheduler"
        assert sections.section(engine.settings, uri, Scheduler).mutation_threshold == 7


async def test_background_work_that_fails_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine.open(settings_of(tmp_path)) as engine:
        done: list[str] = []

        async def fail() -> None:
            raise RuntimeError("broken")

        async def work() -> None:
            done.append("work")

        engine.in_background(fail)
        engine.in_background(work)
        with caplog.at_level(logging.ERROR):
            await engine.background()
        assert done == ["work"]
        assert "broken" in caplog.text


async def test_plugins_that_fail_skip_or_are_required(tmp_path: Path) -> None:
    kind: PluginType[int] = PluginType("io.test.v1")

    def fails(ctx: InitContext[None]) -> int:
        raise RuntimeError("oh")

    def skips(ctx: InitContext[None]) -> int:
        raise Skip("not here")

    made = [
        Registration(kind, "good", lambda ctx: 1),
        Registration(kind, "bad", fails),
        Registration(kind, "late", skips),
    ]
    settings = settings_of(tmp_path)
    started = await graph.Graph.start(made, settings)
    assert started.all("io.test.v1") == {"good": 1}
    assert {one.registration.id: one.init_err for one in started.instances} == {
        "good": "",
        "bad": "oh",
        "late": "skip plugin: not here",
    }
    required = settings_of(tmp_path, 'required_plugins = ["io.test.v1.bad"]\n')
    with pytest.raises(FailedPrecondition, match=r"required plugin io\.test\.v1\.bad .*: oh"):
        await graph.Graph.start(made, required)
    with pytest.raises(RuntimeError, match="oh"):
        await graph.Graph.start(made, settings, essential=("io.test.v1.bad",))
    with pytest.raises(FailedPrecondition, match="none is known"):
        started.one("io.nothing.v1")
