"""Which proxy a request goes through, as the usual variables say; the entry point reads them.

`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in small letters first. NO_PROXY lists host
names (with their subdomains), `.suffixes`, addresses, CIDR ranges, each with an optional port; `*`
is all. The loopback is never proxied. As in Go, and as containerd's users expect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from sampan.distribution.registry.hosts import is_loopback

__all__ = ["Proxies"]

_PORTS = {"http": "80", "https": "443"}


class Proxies:
    """The proxies of one environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Take the variables from `environ`; later changes there have no effect."""

        def variable(name: str) -> str:
            return environ.get(name.lower()) or environ.get(name) or ""

        # A CGI program's HTTP_PROXY is the client's Proxy: header (httpoxy).
        cgi = "REQUEST_METHOD" in environ
        everything = variable("ALL_PROXY")
        self._of = {
            "http": (environ.get("http_proxy", "") if cgi else variable("HTTP_PROXY"))
            or everything,
            "https": variable("HTTPS_PROXY") or everything,
        }
        self._except = [item.strip().lower() for item in variable("NO_PROXY").split(",")]

    def for_url(self, url: str) -> str | None:
        """Return the proxy's URL, or None to connect directly."""
        parts = urlsplit(url)
        proxy = self._of.get(parts.scheme, "")
        host = (parts.hostname or "").rstrip(".")
        if not proxy or is_loopback(parts.netloc.rpartition("@")[2]):
            return None
        port = str(parts.port or _PORTS[parts.scheme])
        if any(item and _covers(item, host, port) for item in self._except):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _covers(item: str, host: str, port: str) -> bool:
    if item == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and "/" in item:
        try:
            return address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    name, colon, wanted = item.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.startswith("[")):
        if wanted != port:
            return False
        item = name
    item = item.strip("[]").removeprefix("*").lstrip(".") if address is None else item.strip("[]")
    return host == item or (address is None and host.endswith(f".{item}"))
