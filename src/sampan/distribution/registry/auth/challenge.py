"""The WWW-Authenticate header: schemes with parameters.

Source: RFC 9110 section 11.6.1; the grammar lets several challenges share one header line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Challenge", "parse_challenges"]

_TEXT_MAX: Final = 16 << 10
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(
    rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*', re.ASCII
)
_SCHEME: Final = re.compile(rf"[\s,]*({_WORD})(?=\s|,|$)\s*", re.ASCII)
_COMMA: Final = re.compile(r"\s*,\s*")
_ESCAPE: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme, in lower case, and its parameters, with names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(lines: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all header lines; what cannot be parsed ends its line."""
    return [challenge for line in lines for challenge in _parse_line(line[:_TEXT_MAX])]


def _parse_line(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = 0
    while match := _SCHEME.match(line, at):
        challenge = Challenge(match[1].lower())
        found.append(challenge)
        at = match.end()
        while parameter := _PARAMETER.match(line, at):
            quoted, plain = parameter[2], parameter[3]
            value = plain if quoted is None else _ESCAPE.sub(r"\1", quoted)
            challenge.parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
            comma = _COMMA.match(line, at)
            if not comma:
                break
            at = comma.end()
    return found
