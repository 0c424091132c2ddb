"""Names of images: `registry.example:5000/team/app:v1@sha256:…`, and the short forms people type.

    parse("redis")             -> docker.io/library/redis:latest
    parse("localhost/x:1")     -> localhost/x:1
    parse("team/app").familiar -> team/app:latest

The first component is a host only if it holds a dot or a colon, is `localhost`, or has a capital;
anything else lives on docker.io, and a single word there below `library/`.

Source: github.com/distribution/reference, the grammar in the package comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from sampan.errors import InvalidArgument
from sampan.model import digest as digests
from sampan.model.digest import Digest

__all__ = ["Reference", "parse", "parse_exact"]

_DEFAULT_DOMAIN: Final = "docker.io"
_OFFICIAL: Final = "library"
_LEGACY_DOMAIN: Final = "index.docker.io"
_NAME_MAX: Final = 255
_TEXT_MAX: Final = _NAME_MAX + 1 + 128 + 1 + 7 + 128

_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN: Final = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?", re.ASCII
)
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|__|_|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}", re.ASCII)
_HEX64: Final = re.compile(r"[a-f0-9]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A whole, normalised name. Made by `parse`; `str()` gives the canonical text back."""

    domain: str
    """Host with an optional port: `docker.io`, `localhost:5000`, `[::1]:5000`."""
    path: str
    """Repository below the host, `library/` included."""
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def object(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    @property
    def familiar(self) -> str:
        """The short form that people type and read; it parses to the same reference."""
        return f"{self._familiar_name()}{self._suffix()}"

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository at `tag`, without a digest."""
        if not _TAG.fullmatch(tag):
            raise InvalidArgument(f"tag {tag[:140]!r}: up to 128 of letters, digits, '_', '.', '-'")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same repository at `digest`; the tag is kept as a remark."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return f"{self.name}{self._suffix()}"

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag

    def _familiar_name(self) -> str:
        if self.domain != _DEFAULT_DOMAIN:
            return self.name
        head, slash, rest = self.path.partition("/")
        return rest if slash and head == _OFFICIAL and "/" not in rest else self.path


def parse(text: str) -> Reference:
    """Return the reference that people mean by `text`, with `:latest` if it names no version.

    Raises:
      InvalidArgument: no reference; the message says which part is wrong.
    """
    reference = _parse(text, *_split_domain(_capped(text)))
    if not reference.tag and not reference.digest:
        return replace(reference, tag="latest")
    return reference


def parse_exact(text: str) -> Reference:
    """Return the reference `text` if it is written out in full, as records in a store are.

    Raises:
      InvalidArgument: no reference, or a short form.
    """
    domain, slash, rest = _capped(text).partition("/")
    if not slash:
        raise InvalidArgument(f"reference {text!r}: needs a host, a slash and a repository")
    return _parse(text, domain, rest)


def _capped(text: str) -> str:
    if not text:
        raise InvalidArgument(
            "reference is empty: give a name such as docker.io/library/busybox:latest"
        )
    if len(text) > _TEXT_MAX:
        raise InvalidArgument(f"reference {text[:60]!r}… is longer than {_TEXT_MAX} characters")
    return text


def _split_domain(text: str) -> tuple[str, str]:
    if _HEX64.fullmatch(text):
        raise InvalidArgument(f"reference {text!r}: 64 hex digits are an id, not a name")
    head, slash, rest = text.partition("/")
    is_host = "." in head or ":" in head or head == "localhost" or head != head.lower()
    if not slash or not is_host:
        head, rest = _DEFAULT_DOMAIN, text
    if head == _LEGACY_DOMAIN:
        head = _DEFAULT_DOMAIN
    if head == _DEFAULT_DOMAIN and "/" not in rest:
        rest = f"{_OFFICIAL}/{rest}"
    return head, rest


def _parse(text: str, domain: str, rest: str) -> Reference:
    before, at, digest_text = rest.partition("@")
    digest = digests.parse(digest_text) if at else None
    path, colon, tag = before.partition(":")
    if path != path.lower():
        raise InvalidArgument(f"reference {text!r}: repository names are lower case")
    if not _DOMAIN.fullmatch(domain):
        raise InvalidArgument(f"reference {text!r}: {domain!r} is no host name")
    if not _PATH.fullmatch(path):
        raise InvalidArgument(f"reference {text!r}: {path!r} is no repository name")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidArgument(f"reference {text!r}: {tag!r} is no tag")
    if len(domain) + 1 + len(path) > _NAME_MAX:
        raise InvalidArgument(
            f"reference {text[:60]!r}…: a name has at most {_NAME_MAX} characters"
        )
    return Reference(domain, path, tag, digest)
