"""Files of networks: what is taken, what is refused and why, and when they are read again."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.network.configs import Folder, parse


def encoded(**raw: Any) -> bytes:
    return json.dumps(raw).encode()


def test_a_list_and_a_single_plugin() -> None:
    network = parse(encoded(cniVersion="1.0.0", name="n", plugins=[{"type": "a"}, {"type": "b"}]))
    assert [one.type for one in network.plugins] == ["a", "b"]
    single = parse(
        encoded(cniVersion="0.4.0", name="n", type="a", capabilities={"x": True, "y": 0})
    )
    assert [one.type for one in single.plugins] == ["a"]
    assert single.plugins[0].capabilities == {"x"}


def test_of_several_versions_the_highest_that_we_know() -> None:
    raw = {"name": "n", "plugins": [{"type": "a"}]}
    assert parse(encoded(**raw, cniVersions=["0.4.0", "1.1.0", "9.0.0"])).version == "1.1.0"
    assert parse(encoded(**raw, cniVersion="1.0.0", cniVersions=["0.4.0"])).version == "1.0.0"
    assert parse(encoded(**raw)).version == "0.1.0"


def test_flags_are_booleans_or_their_names() -> None:
    raw = {"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "a"}]}
    network = parse(encoded(**raw, disableCheck="true", disableGC=True))
    assert (network.disable_check, network.disable_gc) == (True, True)
    with pytest.raises(InvalidArgument, match="disableCheck"):
        parse(encoded(**raw, disableCheck="perhaps"))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{", "no JSON"),
        (b"[]", "no JSON object"),
        (encoded(plugins=[{"type": "a"}]), "no usable name"),
        (encoded(name="../x", plugins=[{"type": "a"}]), "no usable name"),
        (encoded(name="n"), "no usable type"),
        (encoded(name="n", plugins=[]), "no plugins"),
        (encoded(name="n", plugins=["a"]), "no object"),
        (encoded(name="n", plugins=[{"type": "../../bin/sh"}]), "no usable type"),
        (encoded(name="n", plugins=[{"type": "a", "capabilities": []}]), "capabilities"),
        (encoded(name="n", cniVersion="3.0", plugins=[{"type": "a"}]), "unknown to us"),
    ],
)
def test_what_is_no_network(data: bytes, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        parse(data)


def test_a_folder_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "net.d")

    def names() -> list[str]:
        return [one.name for one in folder.networks()]

    assert names() == []
    folder.path.mkdir()
    (folder.path / "20.conflist").write_bytes(encoded(name="b", plugins=[{"type": "x"}]))
    (folder.path / "10.conf").write_bytes(encoded(name="a", type="x"))
    (folder.path / "30.json").write_bytes(encoded(name="b", type="x"))
    (folder.path / "ignored.txt").write_bytes(b"{")
    assert names() == ["a", "b"]
    assert len(folder.problems) == 1
    assert "network b is in" in folder.problems[0]
    unchanged = folder.networks()
    assert folder.networks() is unchanged
    (folder.path / "10.conf").write_bytes(b"{ torn")
    assert names() == ["b"]
    assert any("10.conf is no JSON" in one for one in folder.problems)
    shutil.rmtree(folder.path)
    assert names() == []
    folder.path.mkdir()
    (folder.path / "x.conf").write_bytes(encoded(name="c", type="x"))
    assert names() == ["c"]


def test_plugins_dropped_into_the_folder_of_a_network(tmp_path: Path) -> None:
    (tmp_path / "n.conflist").write_bytes(
        encoded(cniVersion="1.1.0", name="n", plugins=[{"type": "a"}])
    )
    folder = Folder(tmp_path)
    assert [one.type for one in folder.networks()[0].plugins] == ["a"]
    (tmp_path / "n").mkdir()
    (tmp_path / "n/20.conf").write_bytes(encoded(type="c"))
    (tmp_path / "n/10.conf").write_bytes(encoded(type="b"))
    assert [one.type for one in folder.networks()[0].plugins] == ["a", "b", "c"]
    (tmp_path / "n.conflist").write_bytes(
        encoded(cniVersion="1.1.0", name="n", loadOnlyInlinedPlugins=True, plugins=[{"type": "a"}])
    )
    assert [one.type for one in folder.networks()[0].plugins] == ["a"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "n.conf").touch()
    os.truncate(tmp_path / "n.conf", 5 << 20)
    folder = Folder(tmp_path)
    assert folder.networks() == ()
    assert "over" in folder.problems[0]
