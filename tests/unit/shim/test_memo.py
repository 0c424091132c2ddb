"""The note of which runtime has a container."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.shim.memo import recall, remember


def test_it_is_recalled(tmp_path: Path) -> None:
    assert recall(str(tmp_path), "/default") == ("", "/default")
    remember(str(tmp_path), "runc", "/r")
    assert recall(str(tmp_path), "/default") == ("runc", "/r")
    (tmp_path / "sampan-runtime.json").write_text("[1]")
    assert recall(str(tmp_path), "/default") == ("", "/default")
    with pytest.raises(InvalidArgument, match="/nowhere"):
        remember("/nowhere", "", "")
