"""Which hosts to ask for a registry's name: hosts.toml, Docker's certificate folders, defaults.

    certs.d/
      registry.example_5000_/       also registry.example:5000; asked for first
        hosts.toml
        ca.crt client.cert client.key          without hosts.toml: Docker's way
      _default/                     for every registry without a folder

    server = "https://registry.example:5000"       the last resort; without it the name itself
    capabilities = ["pull", "resolve"]             these and the keys below, for the server
    [host."https://mirror.example"]                asked in this order, before the server
      capabilities = ["pull", "resolve"]
      ca = "mirror.crt"  # or a list          client = [["cert", "key"]]  # or one file with both
      skip_verify = false   override_path = false   dial_timeout = "30s"
      [host."https://mirror.example".header]
        x-custom = "value"  # or a list

Relative files are relative to the folder. A host on the loopback is asked in plain HTTP unless its
folder says otherwise. The folder is read for each operation, so changes need no restart.

Source: containerd docs/hosts.md.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from sampan.errors import InvalidArgument

__all__ = ["CAPABILITIES", "Host", "HostsOptions", "hosts_for", "is_loopback"]

CAPABILITIES: Final = frozenset({"pull", "resolve", "push", "referrers"})
_DIAL_TIMEOUT_S: Final = 30.0
_HUB: Final = ("docker.io", "registry-1.docker.io")
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|ns|h|m|s)", re.ASCII)
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Host:
    """One place to ask, all that is needed to reach it included. Policy."""

    scheme: str
    netloc: str
    """Host with an optional port, as in a URL."""
    path: str = "/v2"
    capabilities: frozenset[str] = CAPABILITIES
    ca: tuple[Path, ...] = ()
    """Certificates to trust, beside the system's."""
    client: tuple[tuple[Path, Path | None], ...] = ()
    """Our certificates with their keys; None when one file holds both."""
    skip_verify: bool = False
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    dial_timeout_s: float = _DIAL_TIMEOUT_S
    namespace: str = ""
    """The registry it stands in for, to be told as `?ns=`; empty when it is that registry."""

    @property
    def origin(self) -> str:
        """Scheme and host; what credentials belong to."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def base(self) -> str:
        """The URL that `/<repository>/manifests/…` is appended to."""
        return f"{self.origin}{self.path}"


@dataclass(frozen=True, slots=True)
class HostsOptions:
    """Policy for all registries of one caller."""

    folders: tuple[Path, ...] = ()
    """`certs.d` folders, the first that knows a registry wins."""
    plain_http: bool | None = None
    """True: http for the registry itself; False: https even on the loopback; None: as it fits."""
    skip_verify: bool = False
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """Sent to every host of the registry, beside those of its own."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    capabilities: list[str] | None = None
    ca: str | list[str] | None = None
    client: str | list[str | list[str]] | None = None
    skip_verify: bool | None = None
    header: dict[str, str | list[str]] = msgspec.field(default_factory=dict)
    override_path: bool = False
    dial_timeout: str | None = None


class _File(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    server: str = ""
    host: dict[str, _Section] = msgspec.field(default_factory=dict)


def hosts_for(registry: str, options: HostsOptions = HostsOptions()) -> list[Host]:
    """Return where to ask for `registry`, in order; blocking: it reads files.

    Raises:
      InvalidArgument: a hosts.toml is wrong; the message names the file and the key.
    """
    folder = _folder(registry, options.folders)
    if folder is None:
        return [_override(_default(registry), options)]
    file = folder / "hosts.toml"
    if not file.exists():
        return [_override(_docker_style(registry, folder), options)]
    return [_override(host, options) for host in _load(file, registry)]


def is_loopback(netloc: str) -> bool:
    """Tell whether a host, with or without port, is this machine by its name alone."""
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _folder(registry: str, roots: Sequence[Path]) -> Path | None:
    name, colon, port = registry.rpartition(":")
    names = [registry, "_default"]
    if colon and port.isdigit():
        names.insert(0, f"{name}_{port}_")
    for root in roots:
        for candidate in names:
            if (root / candidate).is_dir():
                return root / candidate
    return None


def _default(registry: str, scheme: str = "") -> Host:
    netloc = _HUB[1] if registry == _HUB[0] else registry
    if not scheme:
        scheme = "http" if is_loopback(netloc) else "https"
    return Host(scheme, netloc)


def _docker_style(registry: str, folder: Path) -> Host:
    """Docker's pattern: *.crt are authorities, NAME.cert and NAME.key are ours."""
    ca = tuple(sorted(folder.glob("*.crt")))
    client = []
    for certificate in sorted(folder.glob("*.cert")):
        key = certificate.with_suffix(".key")
        if not key.exists():
            raise InvalidArgument(f"{certificate}: its key {key.name} is missing")
        client.append((certificate, key))
    host = _default(registry, "https" if ca or client else "")
    return replace(host, ca=ca, client=tuple(client))


def _override(host: Host, options: HostsOptions) -> Host:
    if options.plain_http is not None and not host.namespace:
        host = replace(host, scheme="http" if options.plain_http else "https")
    if options.headers:
        host = replace(host, header={**host.header, **options.headers})
    return replace(host, skip_verify=True) if options.skip_verify else host


def _load(file: Path, registry: str) -> list[Host]:
    try:
        parsed = msgspec.convert(tomllib.loads(file.read_text("utf-8")), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as err:
        raise InvalidArgument(f"{file}: {err}") from err
    try:
        hosts = [_host(url, section, file, registry) for url, section in parsed.host.items()]
        server = parsed.server or _default(registry).origin
        hosts.append(_host(server, parsed, file, registry))
    except ValueError as err:
        raise InvalidArgument(f"{file}: {err}") from err
    return hosts


def _host(url: str, section: _Section, file: Path, registry: str) -> Host:
    if "://" not in url:
        url = f"{'http' if is_loopback(url.partition('/')[0]) else 'https'}://{url}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"host {url!r}: give http:// or https:// and a name")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"host {parts.hostname!r}: no credentials, query or fragment here")
    path = parts.path.rstrip("/")
    if not section.override_path and not path.endswith("/v2"):
        path += "/v2"
    return Host(
        parts.scheme,
        parts.netloc,
        path,
        capabilities=_capabilities(section.capabilities),
        ca=tuple(file.parent / name for name in _as_list(section.ca)),
        client=tuple(_client(section.client, file.parent)),
        skip_verify=bool(section.skip_verify),
        header={key: tuple(_as_list(value)) for key, value in section.header.items()},
        dial_timeout_s=_duration(section.dial_timeout),
        namespace="" if parts.netloc in {registry, _default(registry).netloc} else registry,
    )


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def _capabilities(names: list[str] | None) -> frozenset[str]:
    if not names:
        return CAPABILITIES
    if unknown := set(names) - CAPABILITIES:
        raise ValueError(f"unknown capabilities {sorted(unknown)}")
    return frozenset(names)


def _client(
    value: str | list[str | list[str]] | None, folder: Path
) -> list[tuple[Path, Path | None]]:
    pairs: list[tuple[Path, Path | None]] = []
    for item in [value] if isinstance(value, str) else value or []:
        match item:
            case str(both) | [both] | [both, ""]:
                pairs.append((folder / both, None))
            case [certificate, key]:
                pairs.append((folder / certificate, folder / key))
            case _:
                raise ValueError(f"client {item!r}: give a file, or a certificate and a key")
    return pairs


def _duration(text: str | None) -> float:
    if text is None:
        return _DIAL_TIMEOUT_S
    parts = _DURATION.findall(text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"dial_timeout {text!r}: give a duration such as 30s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
