"""What is remembered of attachments, in libcni's words and in ours."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.errors import DataLoss
from sampan.network.cache import Cache, Entry
from sampan.network.newfile import write_new

ENTRY = Entry(
    network="net",
    id="c1",
    ifname="eth0",
    netns="/run/netns/x",
    config=b'{"name": "net"}',
    args=(("IgnoreUnknown", "1"),),
    capabilities={"mac": "02:00:00:00:00:01"},
    result={"cniVersion": "1.0.0"},
)


def test_the_file_is_libcnis(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cni", tmp_path / "own")
    cache.finish(ENTRY)
    raw = json.loads((tmp_path / "cni/results/net-c1-eth0").read_bytes())
    assert raw == {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "config": base64.b64encode(b'{"name": "net"}').decode(),
        "ifName": "eth0",
        "networkName": "net",
        "netns": "/run/netns/x",
        "cniArgs": [["IgnoreUnknown", "1"]],
        "capabilityArgs": {"mac": "02:00:00:00:00:01"},
        "result": {"cniVersion": "1.0.0"},
    }
    assert Entry.decode(json.dumps(raw).encode()) == ENTRY


def test_life_of_an_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cni", tmp_path / "own")
    begun = replace(ENTRY, result=None)
    assert cache.attached("c1") == []
    assert cache.begin(begun)
    assert not cache.begin(begun)
    assert cache.attached("c1") == [begun]
    cache.finish(ENTRY)
    cache.finish(ENTRY)
    assert cache.attached("c1") == [ENTRY]
    assert cache.attached("c") == []
    assert cache.ours("net") == [ENTRY]
    assert cache.ours("other") == []
    assert cache.find("net", "c1", "eth0") == ENTRY
    cache.forget(ENTRY)
    cache.forget(ENTRY)
    assert cache.attached("c1") == []
    assert cache.find("net", "c1", "eth0") is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_what_others_attached_is_seen_but_not_ours(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cni", tmp_path / "own")
    cache.finish(ENTRY)
    assert cache.ours() == []
    assert cache.everyones("net") == [ENTRY]
    assert cache.find("net", "c1", "eth0") == ENTRY


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"kind": "other"}'])
def test_a_torn_file(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataLoss):
        Entry.decode(data)
    cache = Cache(tmp_path / "cni", tmp_path / "own")
    cache.begin(replace(ENTRY, result=None))
    cache.finish(ENTRY)
    (tmp_path / "cni/results/net-c1-eth0").write_bytes(data)
    assert cache.attached("c1") == [replace(ENTRY, result=None)]
    (tmp_path / "own/net-c1-eth0").write_bytes(data)
    assert cache.attached("c1") == []


def test_attached_last_comes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cni", tmp_path / "own")
    for number in (0, 10, 2, 1):
        cache.begin(replace(ENTRY, ifname=f"eth{number}"))
    assert [one.ifname for one in cache.attached("c1")] == ["eth10", "eth2", "eth1", "eth0"]


def test_a_new_file_never_replaces_another(tmp_path: Path) -> None:
    assert write_new(tmp_path / "a/b", "f", b"one")
    assert not write_new(tmp_path / "a/b", "f", b"two")
    assert (tmp_path / "a/b/f").read_bytes() == b"one"
    assert [one.name for one in (tmp_path / "a/b").iterdir()] == ["f"]
