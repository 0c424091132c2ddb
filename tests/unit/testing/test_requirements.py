"""What `requires` finds, and what it says."""

import os

import pytest

from sampan.testing import missing, requires


def test_what_is_there_is_not_missing() -> None:
    assert missing("sh", "kernel>=2.6", "module:json", "python3>=3.0") == []


def test_what_is_missing_is_named() -> None:
    assert missing("no-such-command", "kernel>=99.1", "module:no_such", "cgroup:nothing") == [
        "the command no-such-command",
        f"kernel>=99.1 (found {os.uname().release})",
        "module:no_such",
        "cgroup:nothing",
    ]


def test_a_command_that_is_too_old_is_named_with_its_version() -> None:
    (lack,) = missing("python3>=99")
    assert lack.startswith("python3>=99 (found 3.")


def test_ten_is_more_than_nine() -> None:
    assert missing("kernel>=2.10") == []
    assert missing("python3>=3.9.1") == []


@pytest.mark.parametrize("need", ["kernel>=", "two words", "cgroup:", "x==1"])
def test_a_misspelt_need_fails_at_once(need: str) -> None:
    with pytest.raises(ValueError, match="no such kind of need"):
        requires(need)


def test_an_unknown_kind_fails() -> None:
    with pytest.raises(ValueError, match="no such kind of need"):
        missing("colour:blue")
