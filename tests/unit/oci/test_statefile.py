"""The state folder under concurrent commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.oci.statefile import StateFolder, check_id


def test_one_at_a_time(tmp_path: Path) -> None:
    folder = StateFolder.make(str(tmp_path), "c1")
    with pytest.raises(AlreadyExists):
        StateFolder.make(str(tmp_path), "c1")
    other = StateFolder.open(str(tmp_path), "c1")
    with pytest.raises(FailedPrecondition, match="another command"):
        other.lock(timeout_s=0)
    folder.write({"pid": 1})
    assert other.read()["pid"] == 1
    folder.unlock()
    with other, other:
        folder_again = StateFolder.open(str(tmp_path), "c1")
        with pytest.raises(FailedPrecondition):
            folder_again.lock(timeout_s=0)
    other.remove()
    with pytest.raises(NotFound):
        folder.lock()
    with pytest.raises(NotFound):
        folder.read()


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "ä", "x" * 1025])
def test_bad_ids(id: str) -> None:
    with pytest.raises(InvalidArgument):
        check_id(id)
