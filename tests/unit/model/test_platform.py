import os

import pytest

from sampan.errors import InvalidArgument
from sampan.model import platform
from sampan.model.platform import Matcher, Platform


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AArch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("s390x", "linux/s390x"),
    ],
)
def test_parse(text: str, found: str) -> None:
    assert str(platform.parse(text)) == found
    assert platform.parse(found) == platform.parse(text)


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/a b", "nonsense", "é"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="platform"):
        platform.parse(text)


def test_default_is_this_host() -> None:
    expected = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    if expected:
        assert str(platform.default()) == f"linux/{expected}"
    assert Matcher(platform.default()).match(platform.parse(os.uname().machine))
    assert platform.parse("linux") == platform.default()


def order(wanted: str, *offers: str) -> list[str]:
    matcher = Matcher(platform.parse(wanted))
    ranked = [(matcher.rank(platform.parse(offer)), offer) for offer in offers]
    return [offer for rank, offer in sorted((r, o) for r, o in ranked if r is not None)]


def test_order_of_what_runs() -> None:
    assert order("linux/amd64", "linux/386", "linux/arm64", "linux/amd64") == [
        "linux/amd64",
        "linux/386",
    ]
    assert order("linux/amd64/v3", "linux/amd64", "linux/amd64/v4", "linux/amd64/v2") == [
        "linux/amd64/v2",
        "linux/amd64",
    ]
    assert order("linux/arm/v7", "linux/arm/v5", "linux/arm/v8", "linux/arm/v6") == [
        "linux/arm/v6",
        "linux/arm/v5",
    ]
    assert order("linux/arm64", "linux/arm/v6", "linux/arm/v7", "windows/arm64") == [
        "linux/arm/v7",
        "linux/arm/v6",
    ]


def test_best_is_the_first_of_equals_and_skips_the_unnamed() -> None:
    matcher = Matcher(platform.parse("linux/amd64"))
    amd64, i386 = platform.parse("linux/amd64"), platform.parse("linux/386")
    assert matcher.best([None, i386, amd64, amd64]) == 2
    assert matcher.best([None, platform.parse("linux/s390x")]) is None
    assert Matcher(amd64, strict=True).best([i386]) is None


def test_features_must_be_offered() -> None:
    wanted = Platform(os="linux", architecture="amd64")
    needy = Platform(os="linux", architecture="amd64", os_features=("win32k",))
    assert not Matcher(wanted).match(needy)
    assert Matcher(needy).match(wanted)
