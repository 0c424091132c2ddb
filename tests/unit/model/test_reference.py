import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.model import reference
from sampan.model.digest import of_bytes

DIGEST = of_bytes(b"")


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("redis", "docker.io/library/redis:latest", "redis:latest"),
        ("redis:7", "docker.io/library/redis:7", "redis:7"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("index.docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/x:1", "localhost/x:1", "localhost/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("127.0.0.1:5000/a/b_c--d.e:T", "127.0.0.1:5000/a/b_c--d.e:T", None),
        ("[::1]:5000/x:1", "[::1]:5000/x:1", None),
        ("HOST/x:1", "HOST/x:1", None),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}", f"redis@{DIGEST}"),
        (f"redis:7@{DIGEST}", f"docker.io/library/redis:7@{DIGEST}", f"redis:7@{DIGEST}"),
    ],
)
def test_normalised(text: str, canonical: str, familiar: str | None) -> None:
    found = reference.parse(text)
    assert str(found) == canonical
    assert found.familiar == (familiar or canonical)
    assert reference.parse(found.familiar) == found == reference.parse_exact(canonical)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "Redis",
        "a/B",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a:",
        "a:-t",
        "a:" + 129 * "t",
        "a@",
        "a@sha256:12",
        "a@" + DIGEST + "@" + DIGEST,
        "a:1:2",
        "a b",
        "a\n",
        "a:t\n",
        "http://x/y",
        "x.io:port/y",
        "x.io:123456/y",
        "../etc",
        "x.io/../y",
        "x.io/y?z",
        "é",
        64 * "0",
        "x.io/" + 255 * "a",
        100_000 * "a",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"reference|digest"):
        reference.parse(text)


def test_short_forms_are_not_exact() -> None:
    for text in ("redis", "team/App", "x y/z"):
        with pytest.raises(InvalidArgument):
            reference.parse_exact(text)


def test_object_prefers_the_digest() -> None:
    found = reference.parse("a:1")
    assert found.object == "1"
    assert found.with_digest(DIGEST).object == DIGEST
    assert str(found.with_digest(DIGEST).with_tag("2")) == "docker.io/library/a:2"
    with pytest.raises(InvalidArgument, match="tag"):
        found.with_tag("a b")


@given(st.text(alphabet="ab-_.:/@0A", max_size=400))
def test_parsing_round_trips_or_refuses(text: str) -> None:
    try:
        found = reference.parse(text)
    except InvalidArgument:
        return
    assert reference.parse(str(found)) == found == reference.parse(found.familiar)


def test_no_input_makes_the_grammar_backtrack() -> None:
    for text in ("a" + 400 * "-", 200 * "a-" + "!", 100 * "a." + "/" + 100 * "a__"):
        with pytest.raises(InvalidArgument):
            reference.parse(text)
