"""The unit files that are shipped: what the daemon's promises need of systemd."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from sampan.engine import resolve

UNITS = Path(__file__).parents[3] / "packaging" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((UNITS / name).read_text())
    return parser


def test_containers_outlive_the_service() -> None:
    service = unit("sampan.service")["Service"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "process"
    assert service["Delegate"] == "yes"
    assert service["OOMScoreAdjust"] == "-999"
    # A limit on open files would be every container's, too.
    assert "LimitNOFILE" not in service


def test_the_socket_is_where_the_daemon_would_listen() -> None:
    listen = unit("sampan.socket")["Socket"]
    assert listen["ListenStream"] == str(resolve({}, {}, uid=0).address)
    assert listen["SocketMode"] == "0660"


@pytest.mark.parametrize("name", ["sampan.service", "sampan.socket"])
def test_systemd_itself_has_no_objection(name: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    for one in UNITS.iterdir():
        text = one.read_text().replace("/usr/bin/sampand", "/bin/true")
        (tmp_path / one.name).write_text(text.replace("man:sampand(8)", "man:true(1)"))
    done = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    mine = [line for line in done.stderr.splitlines() if name in line]
    assert mine == []
