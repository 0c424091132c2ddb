import pytest

from sampan.distribution.registry.auth import Answer, Ask, Credentials, authorize
from sampan.distribution.registry.auth.challenge import Challenge, parse_challenges
from sampan.errors import PermissionDenied, SampanError, Unauthenticated, Unavailable

REALM = {"realm": "https://auth.x/token"}
ASK = Ask("https://x", (), Credentials("u", "p"))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('Bearer realm="h://a",service=s', [("bearer", {"realm": "h://a", "service": "s"})]),
        (r'Basic realm="a\"b, c"', [("basic", {"realm": 'a"b, c'})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Basic realm="x", Bearer realm="y" , scope="a b"',
         [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "scope": "a b"})]),
        ("", []),
        ('"', []),
        ("=,=", []),
        ('Bearer realm="open', [("bearer", {"realm": ""})]),
        ("x" * 100_000, [("x" * (16 << 10), {})]),
    ],
)  # fmt: skip
def test_parse(line: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges([line]) == [Challenge(*pair) for pair in found]


@pytest.mark.parametrize(
    "realm", ["http://auth.x/token", "", "x", "file:///etc", "https://u:p@h/", "http://[", "//h/x"]
)
def test_realms_that_get_no_credentials(realm: str) -> None:
    with pytest.raises(Unauthenticated):
        next(authorize([Challenge("bearer", {"realm": realm})], ASK))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(401), Unauthenticated),
        (Answer(403), PermissionDenied),
        (Answer(500), Unavailable),
        (Answer(302), Unavailable),
        (Answer(200, b"<html>"), Unavailable),
        (Answer(200, b"{}"), Unavailable),
        (Answer(200, b'{"token":"a\\r\\nX-Evil: 1"}'), Unavailable),
        (Answer(200, b"[" * 100_000), Unavailable),
    ],
)
def test_token_servers_that_fail(answer: Answer, error: type[SampanError]) -> None:
    flow = authorize([Challenge("bearer", REALM)], ASK)
    next(flow)
    with pytest.raises(error, match=r"auth\.x"):
        flow.send(answer)


def test_unknown_schemes_and_secrets() -> None:
    with pytest.raises(Unauthenticated, match="negotiate"):
        authorize([Challenge("negotiate")], ASK)
    assert "p" not in repr(Credentials("user", "secret-p"))[len("Credentials(") :]
