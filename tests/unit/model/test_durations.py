"""Go's spans of time, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.model.durations import Duration, parse, text


@pytest.mark.parametrize(
    ("given_text", "seconds"),
    [
        ("0", 0.0),
        ("100ms", 0.1),
        ("1h30m", 5400.0),
        ("-1.5s", -1.5),
        ("4h0m0s", 14400.0),
        (".5s", 0.5),
        ("1us", 1e-6),
        ("1µs", 1e-6),
    ],
)
def test_what_go_reads(given_text: str, seconds: float) -> None:
    assert parse(given_text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "wrong", ["", "5", "s", "1d", "1 s", "1s ", "--1s", "1_0s", "٣s", "1h" * 99]
)
def test_what_go_refuses(wrong: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse(wrong)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (0.1, "100ms"), (14400, "4h0m0s"), (90.5, "1m30.5s"), (1e-9, "1ns"), (2.5, "2.5s")],
)
def test_what_go_writes(seconds: float, written: str) -> None:
    assert text(seconds) == written
    assert str(Duration(seconds)) == written


@given(st.integers(-(10**15), 10**15))
def test_there_and_back(ns: int) -> None:
    assert round(parse(text(ns / 1e9)) * 1e9) == pytest.approx(ns, rel=1e-12, abs=1)
