"""Settings: precedence, defaults of root and of others, strict config files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine.config import resolve
from sampan.errors import InvalidArgument


def test_defaults_of_root() -> None:
    settings = resolve({}, {}, uid=0)
    assert (settings.root, settings.state) == (Path("/var/lib/sampan"), Path("/run/sampan"))
    assert settings.hosts_dir == Path("/etc/sampan/certs.d")
    assert settings.address == Path("/run/sampan/sampan.sock")


def test_defaults_of_others_are_xdg() -> None:
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_DATA_HOME": "/d"}
    settings = resolve({}, environ, uid=1000)
    assert (settings.root, settings.state) == (Path("/d/sampan"), Path("/r/sampan"))
    assert settings.hosts_dir == Path("/h/.config/sampan/certs.d")


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('root = "/file"\nstate = "/file-state"\nlog_level = "debug"\n')
    environ = {"SAMPAN_ROOT": "/env", "SAMPAN_CONFIG": str(file)}
    settings = resolve({"root": "/flag"}, environ, uid=0)
    assert settings.root == Path("/flag")
    assert resolve({}, environ, uid=0).root == Path("/env")
    assert settings.state == Path("/file-state")
    assert settings.address == Path("/file-state/sampan.sock")
    assert (settings.log_level, settings.config) == ("debug", file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("roo = 1", "unknown key roo"),
        ("root = 1", "root: Expected `str`"),
        ("root = ", "not TOML"),
        ("grpc = 2", "version 1"),
        ("version = 5", "newer than 4"),
        ('log_level = "loud"', "loud"),
    ],
)
def test_bad_file_names_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        resolve({"config": str(file)}, {}, uid=0)
    assert str(file) in str(caught.value) or "log level" in str(caught.value)
    assert expected in str(caught.value)


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="does not exist"):
        resolve({"config": str(tmp_path / "none")}, {}, uid=0)


def test_unknown_log_level() -> None:
    with pytest.raises(InvalidArgument, match="log level 'loud'"):
        resolve({"log_level": "loud"}, {}, uid=0)


def test_containerds_levels_are_understood() -> None:
    assert resolve({"log_level": "warn"}, {}, uid=0).log_level == "warning"
    assert resolve({"log_level": "trace"}, {}, uid=0).log_level == "debug"


def test_the_other_socket_is_beside_the_address() -> None:
    settings = resolve({"address": "/x/s.sock"}, {}, uid=0)
    assert settings.ttrpc == Path("/x/s.sock.ttrpc")
