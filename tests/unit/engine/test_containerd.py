"""Containerd's config.toml of versions 2, 3 and 4: accepted as it is, and never half understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine import containerd, toml
from sampan.engine.containerd import Loaded
from sampan.errors import InvalidArgument

DEBIAN = """version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InvalidArgument) as caught:
        Loaded.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_debians_file(tmp_path: Path) -> None:
    loaded = Loaded.load(write(tmp_path / "c.toml", DEBIAN))
    assert loaded.warnings == []
    cni = loaded.table["plugins"]["io.containerd.cri.v1.runtime"]["cni"]
    assert cni == {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"}


def test_our_defaults_are_a_file_without_warnings(tmp_path: Path) -> None:
    loaded = Loaded.load(write(tmp_path / "c.toml", toml.dumps(containerd.defaults())))
    assert loaded.warnings == []
    assert loaded.table == containerd.defaults()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("version = 3\noom_score = 'x'", "oom_score"),
        ("version = 2\n[grpc]\nuid = 'x'", "grpc.uid"),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = 3',
            'plugins."io.containerd.grpc.v1.cri".sandbox_image',
        ),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.x]\n'
            "runtime_type = 3",
            'plugins."io.containerd.grpc.v1.cri".containerd.runtimes[...].runtime_type',
        ),
        (
            'version = 3\n[plugins."io.containerd.cri.v1.images"]\nmax_concurrent_downloads = "3"',
            'plugins."io.containerd.cri.v1.images".max_concurrent_downloads',
        ),
        (
            'version = 4\n[plugins."io.containerd.server.v1.metrics"]\naddress = 1338',
            'plugins."io.containerd.server.v1.metrics".address',
        ),
        ('version = 2\n[timeouts]\n"a.b" = "5"', "timeouts"),
        ("version = 2\nplugins = 3", "plugins"),
        ("version = true", "version"),
        ("version = 9", "version 9"),
        ('version = 2\ndisabled_plugins = ["cri"]', "'cri'"),
        ("version = 2\nimports = 'x'", "imports"),
    ],
)
def test_a_wrong_type_names_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    assert key in refused(write(tmp_path / "c.toml", text))


def test_version_1_is_refused_with_advice(tmp_path: Path) -> None:
    text = refused(write(tmp_path / "c.toml", 'disabled_plugins = ["cri"]\n'))
    assert "version 1" in text
    assert "version = 2" in text


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ('disabled_plugins = ["cri"]', True),
        ("oom_score = -999", True),
        ("[plugins.cri]\nsandbox_image = 'x'", True),
        ("version = 3", True),
        ("", False),
        ("root = '/x'", False),
        ("version = 1\nroot = '/x'", False),
    ],
)
def test_whose_file_it_is(tmp_path: Path, text: str, foreign: bool) -> None:
    assert containerd.is_foreign(toml.loads(text.encode(), tmp_path)) is foreign


def test_what_is_unknown_is_a_warning(tmp_path: Path) -> None:
    text = (
        'version = 3\nnews = 1\n[plugins."io.containerd.gc.v1.scheduler"]\nspeed = 3\n'
        '[plugins."io.containerd.future.v1.x"]\na = 1\n'
        '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\nnew_key = 1\n'
    )
    loaded = Loaded.load(write(tmp_path / "c.toml", text))
    said = "\n".join(loaded.warnings)
    assert "unknown key news" in said
    assert 'unknown key plugins."io.containerd.gc.v1.scheduler".speed' in said
    assert "unknown plugin io.containerd.future.v1.x" in said
    assert "runtimes.runc.new_key" in said
    assert len(loaded.warnings) == 4


def test_drop_ins(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    write(
        tmp_path / "conf.d/nvidia.toml",
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\n'
        'default_runtime_name = "nvidia"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n'
        'runtime_type = "io.containerd.runc.v2"\n',
    )
    main = write(
        tmp_path / "c.toml",
        'version = 3\nroot = "/r"\nimports = ["conf.d/*.toml"]\n'
        '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]\n'
        "SystemdCgroup = true\n",
    )
    table = Loaded.load(main).table
    section = table["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]
    assert section["default_runtime_name"] == "nvidia"
    assert set(section["runtimes"]) == {"runc", "nvidia"}
    assert table["root"] == "/r"


def test_a_drop_in_is_not_newer_than_the_main_file(tmp_path: Path) -> None:
    other = write(tmp_path / "o.toml", "version = 3\n")
    write(tmp_path / "c.toml", 'version = 2\nimports = ["o.toml"]\n')
    with pytest.raises(InvalidArgument, match="higher than version 2") as caught:
        Loaded.load(tmp_path / "c.toml")
    assert str(other) in str(caught.value)
