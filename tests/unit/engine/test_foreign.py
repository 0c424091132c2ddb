"""Settings from containerd's file, and what the CRI plugin reads of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine import Settings, cri_settings, resolve, section
from sampan.engine.schema import Scheduler
from sampan.errors import InvalidArgument
from sampan.model.durations import Duration


def settings_of(tmp_path: Path, text: str, **flags: str) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return resolve({"config": str(file), **flags}, {}, uid=0)


def test_we_stand_in_containerds_place_but_not_in_its_folders(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "version = 2\n")
    assert settings.address == Path("/run/containerd/containerd.sock")
    assert settings.ttrpc == Path("/run/containerd/containerd.sock.ttrpc")
    assert settings.root == Path("/var/lib/containerd/sampan")
    assert settings.state == Path("/run/containerd/sampan")
    assert settings.foreign


def test_flags_win(tmp_path: Path) -> None:
    text = 'version = 2\nroot = "/r"\n[grpc]\naddress = "/g.sock"\n[ttrpc]\naddress = "/t.sock"\n'
    settings = settings_of(tmp_path, text)
    assert (settings.address, settings.ttrpc) == (Path("/g.sock"), Path("/t.sock"))
    assert settings.root == Path("/r/sampan")
    settings = settings_of(tmp_path, text, root="/mine", address="/mine.sock")
    assert settings.root == Path("/mine")
    assert settings.ttrpc == Path("/mine.sock.ttrpc")


def test_what_the_file_says_of_us(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        'version = 3\noom_score = -999\n[debug]\nlevel = "warn"\nformat = "json"\n'
        '[cgroup]\npath = "/c"\n[timeouts]\n"io.containerd.timeout.shim.load" = "7s"\n'
        '[plugins."io.sampan.engine.v1.settings"]\nexec_oci = true\n'
        '[plugins."io.containerd.gc.v1.scheduler"]\nschedule_delay = "20ms"\n',
    )
    assert (settings.log_level, settings.log_format) == ("warning", "json")
    assert (settings.oom_score, settings.cgroup, settings.exec_oci) == (-999, "/c", True)
    assert settings.timeouts == {"io.containerd.timeout.shim.load": 7.0}
    gc = section(settings, "io.containerd.gc.v1.scheduler", Scheduler)
    assert (gc.schedule_delay, gc.mutation_threshold) == (0.02, 100)
    assert settings.warnings == ()


def test_cri(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    settings = settings_of(
        tmp_path,
        'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "pause:9"\n'
        "max_container_log_line_size = -1\nenable_selinux = true\nstream_idle_timeout = '1h'\n"
        f'[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{tmp_path}/certs"\n'
        '[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/usr/lib/cni"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "native"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n'
        'SystemdCgroup = true\nBinaryName = "/usr/sbin/runc"\n',
    )
    found = cri_settings(settings)
    assert found.sandbox_image == "pause:9"
    assert found.runtime.max_container_log_line_size == -1
    assert found.runtime.enable_selinux
    assert found.streaming.stream_idle_timeout == Duration(3600)
    assert found.runtime.cni.folders == ("/usr/lib/cni",)
    assert found.images.snapshotter == settings.snapshotter == "native"
    assert settings.hosts_dir == tmp_path / "certs"
    handler = found.handler("")
    assert handler is not None
    # Only its options were said: the rest is the default handler's.
    assert handler.runtime_type == "io.containerd.runc.v2"
    assert handler.runc_options().systemd_cgroup
    assert handler.runc_options().binary_name == "/usr/sbin/runc"
    assert found.handler("none") is None


def test_cri_defaults(tmp_path: Path) -> None:
    found = cri_settings(settings_of(tmp_path, "version = 3\n"))
    assert found.sandbox_image == "registry.k8s.io/pause:3.10.2"
    assert found.runtime.cni.folders == ("/opt/cni/bin",)
    assert found.certs[0] == Path("/etc/containerd/certs.d")


def test_an_unknown_log_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"debug\.format"):
        settings_of(tmp_path, 'version = 2\n[debug]\nformat = "xml"\n')
