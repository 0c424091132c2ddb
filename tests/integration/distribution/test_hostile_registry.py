"""Answers that are refused, each with the blob's and the host's name in the error."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.distribution import RegistryClient, RegistryOptions
from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.credentials import FileCredentials, StaticCredentials
from sampan.distribution.registry.hosts import HostsOptions
from sampan.distribution.registry.transport import Deadlines
from sampan.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    SampanError,
    Unauthenticated,
    Unavailable,
)
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.model.image import MANIFEST_MAX
from sampan.model.reference import Reference, parse
from sampan.testing.registry import LyingRegistry, Recorded, Reply

BLOB = b"the blob" * 100
LAYER = Descriptor(media_type=OCI_LAYER, digest=digests.of_bytes(BLOB), size=len(BLOB))
PATH = f"/v2/app/blobs/{LAYER.digest}"
DENIED = b'{"errors":[{"code":"DENIED","message":"no\\u001b[2J"}]}'
QUICK = Deadlines(answer_s=0.5, progress_s=0.5)


@pytest.fixture
async def liar() -> AsyncIterator[LyingRegistry]:
    async with LyingRegistry() as server:
        yield server


def client_with(credentials: Credentials | None = None, host: str = "") -> RegistryClient:
    source = StaticCredentials(host, credentials) if credentials else FileCredentials({}, files=[])
    return RegistryClient(RegistryOptions(deadlines=QUICK, credentials=source))


def at(liar: LyingRegistry, tag: str = "1") -> Reference:
    return parse(f"{liar.host}/app:{tag}")


async def fetch(liar: LyingRegistry, what: Descriptor = LAYER, offset: int = 0) -> bytes:
    async with client_with() as client:
        fetcher = await client.fetcher(at(liar))
        async with fetcher.fetch(what, offset) as stream:
            return b"".join([chunk async for chunk in stream])


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(body=BLOB[:-1]), DataLoss),
        (Reply(body=BLOB + b"x"), DataLoss),
        (Reply(headers={"Content-Length": ""}, body=BLOB + b"x", cut_after=9999), DataLoss),
        (Reply(headers={"Content-Length": ""}, body=BLOB[:-1], cut_after=9999), DataLoss),
        (Reply(body=BLOB, cut_after=10), Unavailable),
        (Reply(body=BLOB, cut_after=10, hang=True), DeadlineExceeded),
        (Reply(headers={"Content-Encoding": "gzip"}, body=BLOB), DataLoss),
        (Reply(302, {"Location": "http://u:p@127.0.0.1:9/x"}), PermissionDenied),
        (Reply(403, body=DENIED), PermissionDenied),
    ],
)
async def test_blobs_that_are_refused(
    liar: LyingRegistry, reply: Reply, error: type[SampanError]
) -> None:
    liar.replies["GET", PATH] = reply
    with pytest.raises(error) as caught:
        await fetch(liar)
    assert liar.host in str(caught.value)
    assert "sha256:" in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_a_transient_error_is_tried_again(liar: LyingRegistry) -> None:
    liar.replies["GET", PATH] = [Reply(503), Reply(500), Reply(body=BLOB)]
    assert await fetch(liar) == BLOB


@pytest.mark.parametrize(
    "said", ["bytes 5-799/800", "bytes 10-700/800", "bytes 10-799/900", "x", "", "bytes ٣-4/5"]
)
async def test_ranges_that_lie(liar: LyingRegistry, said: str) -> None:
    value = said.encode().decode("latin-1")
    liar.replies["GET", PATH] = Reply(206, {"Content-Range": value}, BLOB[10:])
    with pytest.raises(DataLoss, match=r"sends another range|says it has"):
        await fetch(liar, offset=10)


async def resolve(liar: LyingRegistry, reference: Reference | None = None) -> Descriptor:
    async with client_with() as client:
        return await client.resolve(reference or at(liar))


async def test_resolving_what_is_no_image(liar: LyingRegistry) -> None:
    place = "/v2/app/manifests/1"
    html = {"Content-Type": "text/html", "Docker-Content-Digest": LAYER.digest}
    liar.replies["HEAD", place] = Reply(headers=html, body=b"x")
    with pytest.raises(FailedPrecondition, match="text/html"):
        await resolve(liar)
    huge = {
        "Content-Type": OCI_MANIFEST,
        "Docker-Content-Digest": str(LAYER.digest),
        "Content-Length": str(MANIFEST_MAX + 1),
    }
    liar.replies["HEAD", place] = Reply(headers=huge)
    with pytest.raises(ResourceExhausted, match="is the most"):
        await resolve(liar)
    liar.replies["HEAD", place] = Reply(headers={**huge, "Docker-Content-Digest": "sha256:../.."})
    with pytest.raises(DataLoss, match="names no digest"):
        await resolve(liar)


async def test_a_digest_reference_must_get_that_digest(liar: LyingRegistry) -> None:
    reference = at(liar).with_digest(LAYER.digest)
    liar.replies["HEAD", f"/v2/app/manifests/{LAYER.digest}"] = Reply(
        headers={
            "Content-Type": OCI_MANIFEST,
            "Docker-Content-Digest": digests.of_bytes(b"other"),
        },
        body=b"x",
    )
    with pytest.raises(DataLoss, match=digests.of_bytes(b"other")):
        await resolve(liar, reference)


async def test_a_manifest_of_another_type(liar: LyingRegistry) -> None:
    descriptor = Descriptor(media_type=OCI_MANIFEST, digest=LAYER.digest, size=len(BLOB))
    liar.replies["GET", f"/v2/app/manifests/{LAYER.digest}"] = Reply(
        headers={"Content-Type": OCI_INDEX}, body=BLOB
    )
    with pytest.raises(DataLoss, match="expected"):
        await fetch(liar, descriptor)


class TokenRegistry:
    """A registry with a token server on another port, both as one handler each."""

    def __init__(self, liar: LyingRegistry, tokens: LyingRegistry, *, get: bool = True) -> None:
        self.tokens = tokens
        self.valid = "good-token"
        self.get = get
        liar.handler = self.registry
        tokens.handler = self.token

    def registry(self, request: Recorded) -> Reply:
        if request.headers.get("authorization") == f"Bearer {self.valid}":
            return Reply(body=BLOB)
        challenge = (
            f'Bearer realm="http://{self.tokens.host}/token",service="reg, the",'
            'scope="repository:app:pull",error="invalid_token"'
        )
        return Reply(401, {"WWW-Authenticate": challenge})

    def token(self, request: Recorded) -> Reply:
        if request.method == "GET" and not self.get:
            return Reply(405)
        return Reply(body=json.dumps({"access_token": self.valid, "expires_in": 300}).encode())


async def fetch_twice(liar: LyingRegistry, credentials: Credentials) -> None:
    async with client_with(credentials, liar.host) as client:
        fetcher = await client.fetcher(at(liar))
        for _ in range(2):
            async with fetcher.fetch(LAYER) as stream:
                assert b"".join([chunk async for chunk in stream]) == BLOB


async def test_bearer_by_get(liar: LyingRegistry) -> None:
    async with LyingRegistry() as tokens:
        TokenRegistry(liar, tokens)
        await fetch_twice(liar, Credentials("ahab", "whale"))
        (asked,) = tokens.requests
        assert asked.headers["authorization"] == (
            "Basic " + base64.b64encode(b"ahab:whale").decode()
        )
        assert asked.target == (
            "/token?service=reg%2C+the&scope=repository%3Aapp%3Apull&account=ahab"
        )
    sent = [r.headers.get("authorization") for r in liar.requests]
    assert sent == [None, "Bearer good-token", "Bearer good-token"]


@pytest.mark.parametrize(
    ("credentials", "grant"),
    [
        (Credentials("", "", "refresh"), b"grant_type=refresh_token&refresh_token=refresh"),
        (Credentials("ahab", "wh&le"), b"grant_type=password&username=ahab&password=wh%26le"),
    ],
)
async def test_bearer_by_post(liar: LyingRegistry, credentials: Credentials, grant: bytes) -> None:
    async with LyingRegistry() as tokens:
        TokenRegistry(liar, tokens, get=False)
        await fetch_twice(liar, credentials)
        assert grant in tokens.requests[-1].body
        assert b"scope=repository%3Aapp%3Apull" in tokens.requests[-1].body


async def test_a_token_that_ended_is_renewed(liar: LyingRegistry) -> None:
    async with LyingRegistry() as tokens:
        server = TokenRegistry(liar, tokens)
        async with client_with() as client:
            fetcher = await client.fetcher(at(liar))
            for valid in ("one", "two"):
                server.valid = valid
                async with fetcher.fetch(LAYER) as stream:
                    assert b"".join([chunk async for chunk in stream]) == BLOB
        assert len(tokens.requests) == 2


async def test_a_token_that_is_refused_ends_it(liar: LyingRegistry) -> None:
    async with LyingRegistry() as tokens:
        server = TokenRegistry(liar, tokens)
        liar.handler = lambda _: Reply(
            401, {"WWW-Authenticate": f'Bearer realm="http://{server.tokens.host}/token"'}
        )
        with pytest.raises(Unauthenticated):
            await fetch(liar)
        assert len(liar.requests) == 2


async def test_a_redirected_401_gets_no_credentials(liar: LyingRegistry) -> None:
    async with LyingRegistry() as foreign:
        foreign.handler = lambda _: Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
        liar.replies["GET", PATH] = Reply(307, {"Location": f"http://{foreign.host}/blob"})
        async with client_with(Credentials("ahab", "whale"), liar.host) as client:
            fetcher = await client.fetcher(at(liar))
            with pytest.raises(Unauthenticated):
                async with fetcher.fetch(LAYER):
                    pass
        assert len(foreign.requests) == 1
        assert "authorization" not in foreign.requests[0].headers


async def test_a_mirror_is_asked_first_and_told_the_namespace(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async with LyingRegistry() as mirror:
        folder = tmp_path / "_default"
        folder.mkdir()
        (folder / "hosts.toml").write_text(
            f'server = "http://{liar.host}"\n[host."http://{mirror.host}"]\n'
            'capabilities = ["pull"]\n'
        )
        liar.replies["GET", PATH] = Reply(body=BLOB)
        options = RegistryOptions(hosts=HostsOptions(folders=(tmp_path,)), deadlines=QUICK)
        async with RegistryClient(options) as client:
            fetcher = await client.fetcher(at(liar))
            async with fetcher.fetch(LAYER) as stream:
                assert stream.host == liar.host
                assert b"".join([chunk async for chunk in stream]) == BLOB
        assert mirror.requests[0].target == f"{PATH}?ns={liar.host}"
