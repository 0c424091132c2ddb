"""Keeping and forgetting credentials: what `sampan login` writes and `credentials` reads.

They go where the reader looks first: `$REGISTRY_AUTH_FILE`, else `~/.docker/config.json` (or
`$DOCKER_CONFIG`), into the helper of `credsStore` or `credHelpers` if that file names one, else
base64 in `auths`, in a file that only its owner reads. Everything else in the file stays as it is.

Source: docker/cli config file; docker-credential-helpers README.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.client import RegistryClient, RegistryOptions
from sampan.distribution.registry.credentials import StaticCredentials
from sampan.distribution.registry.hosts import HostsOptions
from sampan.errors import FailedPrecondition, InvalidArgument

__all__ = ["check", "forget", "store"]

_HUB: Final = "https://index.docker.io/v1/"
_TIMEOUT_S: Final = 30


async def check(registry: str, username: str, password: str, *, hosts_dir: Path) -> None:
    """Ask the registry whether it takes these credentials.

    Raises:
      Unauthenticated: it does not.
      Unavailable: it cannot be reached.
    """
    options = RegistryOptions(
        hosts=HostsOptions(folders=(hosts_dir,)),
        environ=os.environ,
        credentials=StaticCredentials(registry, Credentials(username, password)),
    )
    async with RegistryClient(options) as client:
        await client.ping(registry)


def store(
    registry: str, username: str, password: str, environ: Mapping[str, str] = os.environ
) -> Path:
    """Keep the credentials; return the file that now knows of them.

    Raises:
      FailedPrecondition: the file or its helper does not let us.
    """
    path = _file(environ)
    document = _read(path)
    key = _key(registry)
    helper = _helper(document, registry)
    auths = document.setdefault("auths", {})
    if helper:
        secret = {"ServerURL": key, "Username": username, "Secret": password}
        _ask(helper, "store", json.dumps(secret))
        auths[key] = {}
    else:
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        auths[key] = {"auth": pair}
    _write(path, document)
    return path


def forget(registry: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Forget the credentials; tell whether there were any."""
    path = _file(environ)
    document = _read(path)
    key = _key(registry)
    helper = _helper(document, registry)
    known = document.get("auths", {}).pop(key, None) is not None
    if helper and known:
        _ask(helper, "erase", key)
    if known:
        _write(path, document)
    return known


def _key(registry: str) -> str:
    return _HUB if registry in ("docker.io", "index.docker.io") else registry


def _file(environ: Mapping[str, str]) -> Path:
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        return Path(explicit)
    folder = environ.get("DOCKER_CONFIG")
    home = Path(environ.get("HOME") or "/root")
    return (Path(folder) if folder else home / ".docker") / "config.json"


def _helper(document: Mapping[str, Any], registry: str) -> str:
    name = (document.get("credHelpers") or {}).get(registry) or document.get("credsStore") or ""
    return str(name)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise FailedPrecondition(f"credentials in {path} cannot be read: {err.strerror}") from err
    try:
        document = json.loads(text or "{}")
    except ValueError as err:
        raise InvalidArgument(f"{path} is no JSON: {err}; mend or remove it") from err
    if not isinstance(document, dict):
        raise InvalidArgument(f"{path} is no JSON object; mend or remove it")
    return document


def _write(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(document, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise FailedPrecondition(f"cannot keep credentials in {path}: {err.strerror}") from err


def _ask(helper: str, verb: str, text: str) -> None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise FailedPrecondition(f"credential helper {program} cannot be run: {err}") from err
    if done.returncode:
        raise FailedPrecondition(f"credential helper {program} could not {verb} the credentials")
