"""Subordinate ids, and why there is no user namespace. Its use is tested with whole sandboxes."""

from pathlib import Path

import pytest

from sampan.zygote import userns


def test_ranges_are_those_of_the_name_or_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = userns.ranges_of("uid", ["nobody who has any", "4294967294"])
    assert found == []


def test_this_host_says_nothing_against_it() -> None:
    why = userns.why_refused()
    assert why == "" or "set " in why


def test_having_ranges_is_a_question_with_an_answer() -> None:
    assert userns.has_ranges() in (True, False)
