"""Where credentials come from: docker's config.json, podman's auth.json, and credential helpers.

    $REGISTRY_AUTH_FILE                                   alone, when set
    $XDG_RUNTIME_DIR/containers/auth.json                 podman login
    $DOCKER_CONFIG/config.json or ~/.docker/config.json   docker login

In each file, for the most specific name first (`host/team/app`, `host/team`, `host`): the helper of
`credHelpers`, the entry in `auths`, then `credsStore`. Files are read anew for each operation.

A helper is the program `docker-credential-NAME`: `get`, the server's name on stdin, JSON on stdout.

Source: docker/cli config file, containers-auth.json(5), docker-credential-helpers README.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from sampan.concurrency import run, to_thread
from sampan.distribution.registry.auth import Credentials
from sampan.errors import FailedPrecondition, InvalidArgument

__all__ = ["CredentialSource", "FileCredentials", "StaticCredentials"]

log = logging.getLogger(__name__)

_HUB_NAMES: Final = ("https://index.docker.io/v1/", "docker.io", "index.docker.io")
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HELPER_TIMEOUT_S: Final = 30.0
_FILE_MAX: Final = 4 << 20
_TOKEN_USER: Final = "<token>"  # noqa: S105
_NOT_FOUND: Final = b"credentials not found"


class CredentialSource(Protocol):
    """Knows who we are to whom."""

    async def lookup(self, registry: str, path: str = "") -> Credentials:
        """Return credentials for a registry, by its name in references; empty if there are none."""
        ...


class StaticCredentials:
    """The same credentials for one registry alone, from a flag or a CRI request."""

    def __init__(self, registry: str, credentials: Credentials) -> None:
        """Answer `credentials` when asked for `registry`."""
        self._registry = registry
        self._credentials = credentials

    async def lookup(self, registry: str, path: str = "") -> Credentials:
        """Return the credentials for that registry, none for any other."""
        return self._credentials if registry == self._registry else Credentials()


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}
    creds_store: str = msgspec.field(default="", name="credsStore")
    cred_helpers: dict[str, str] = msgspec.field(default={}, name="credHelpers")


class _Secret(msgspec.Struct, frozen=True):
    username: str = msgspec.field(default="", name="Username")
    secret: str = msgspec.field(default="", name="Secret")


class FileCredentials:
    """Credentials of the user whose environment this is."""

    def __init__(self, environ: Mapping[str, str], *, files: Sequence[Path] | None = None) -> None:
        """Read what `environ` points to, or only `files`; helpers are found on its PATH."""
        self._environ = dict(environ)
        self._files = list(_files(environ) if files is None else files)

    async def lookup(self, registry: str, path: str = "") -> Credentials:
        """Return the first credentials found.

        Raises:
          InvalidArgument: a file cannot be understood.
          FailedPrecondition: a helper that a file names fails.
        """
        for file in self._files:
            parsed = await to_thread(_read, file)
            if parsed is not None and (found := await self._search(file, parsed, registry, path)):
                return found
        return Credentials()

    async def _search(self, file: Path, parsed: _File, registry: str, path: str) -> Credentials:
        names = list(_names(registry, path))
        for name in names:
            if helper := parsed.cred_helpers.get(name):
                return await self._ask(helper, name)
        by_name = {_bare(key): entry for key, entry in parsed.auths.items()}
        for name in names:
            entry = parsed.auths.get(name) or by_name.get(_bare(name))
            if entry and (found := _credentials(file, name, entry)):
                return found
        if parsed.creds_store:
            server = _HUB_NAMES[0] if registry == "docker.io" else registry
            return await self._ask(parsed.creds_store, server)
        return Credentials()

    async def _ask(self, helper: str, server: str) -> Credentials:
        if not _HELPER.fullmatch(helper):
            raise InvalidArgument(f"credential helper {helper!r}: no name of a program")
        program = f"docker-credential-{helper}"
        try:
            ended = await run(
                [program, "get"],
                stdin=server.encode(),
                env=self._environ,
                timeout_s=_HELPER_TIMEOUT_S,
                cap_bytes=1 << 20,
            )
        except OSError as err:
            raise FailedPrecondition(f"credential helper {program} cannot be run: {err}") from err
        if ended.returncode != 0:
            if _NOT_FOUND in ended.stdout.lower() + ended.stderr.lower():
                return Credentials()
            said = (ended.stdout + ended.stderr)[:200].decode("utf-8", "replace").strip()
            raise FailedPrecondition(f"credential helper {program} failed for {server}: {said!r}")
        try:
            secret = msgspec.json.decode(ended.stdout, type=_Secret)
        except msgspec.MsgspecError:
            # The text may hold a secret: neither it nor the parser's words are shown.
            raise FailedPrecondition(
                f"credential helper {program} answered no JSON for {server}"
            ) from None
        if secret.username == _TOKEN_USER:
            return Credentials(identity_token=secret.secret)
        return Credentials(secret.username, secret.secret)


def _files(environ: Mapping[str, str]) -> list[Path]:
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        return [Path(explicit)]
    found = []
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(runtime) / "containers/auth.json")
    home = Path(environ.get("HOME") or "/root")
    if "XDG_CONFIG_HOME" in environ:
        found.append(Path(environ["XDG_CONFIG_HOME"]) / "containers/auth.json")
    folder = environ.get("DOCKER_CONFIG")
    found.append((Path(folder) if folder else home / ".docker") / "config.json")
    return found


def _read(file: Path) -> _File | None:
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise FailedPrecondition(f"credentials in {file} cannot be read: {err.strerror}") from err
    if len(data) > _FILE_MAX:
        raise InvalidArgument(f"{file}: larger than {_FILE_MAX} bytes")
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as err:
        raise InvalidArgument(f"{file}: {err}") from err


def _names(registry: str, path: str) -> list[str]:
    parts = path.split("/") if path else []
    names = ["/".join([registry, *parts[:count]]) for count in range(len(parts), -1, -1)]
    return [*names, *_HUB_NAMES] if registry == "docker.io" else names


def _bare(key: str) -> str:
    """Return a key of `auths` as a host and path; old versions of docker wrote URLs."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return key.removesuffix("/v1").removesuffix("/v2")


def _credentials(file: Path, name: str, entry: _Entry) -> Credentials:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            pair = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidArgument(f"{file}: auths.{name}.auth is not base64") from None
        username, _, password = pair.partition(":")
        password = password.rstrip("\0")
    return Credentials(username, password, entry.identitytoken, entry.registrytoken)
