"""Credential providers: the first that knows answers, and one that fails is passed over."""

from __future__ import annotations

from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.credentials import StaticCredentials
from sampan.engine.identities import ProvidedCredentials

FILE = StaticCredentials("files.example", Credentials(username="file"))


class Provider:
    def __init__(self, registry: str, username: str = "") -> None:
        self.registry = registry
        self.username = username

    async def credentials(self, registry: str, repository: str) -> Credentials | None:
        if not self.username:
            raise RuntimeError("broken")
        return Credentials(username=self.username) if registry == self.registry else None


async def test_order_and_fallback() -> None:
    source = ProvidedCredentials(
        {
            "c": Provider("r.example", "last"),
            "a": Provider(""),
            "b": Provider("r.example", "first"),
        },
        FILE,
    )
    assert (await source.lookup("r.example")).username == "first"
    assert (await source.lookup("files.example")).username == "file"
    assert await ProvidedCredentials({}, None).lookup("r.example") == Credentials()
