"""Where a shim listens."""

from pathlib import Path

import pytest

from sampan.shim import sockets


def test_a_dead_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s" / ("x" * 70))
    assert not sockets.alive(path)
    first = sockets.bind(path)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert sockets.alive(path)
    with pytest.raises(OSError, match="in use"):
        sockets.bind(path)
    first.close()
    assert not sockets.alive(path)
    second = sockets.bind(path)
    assert sockets.alive(path)
    second.close()
