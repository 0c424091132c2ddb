"""What a registry's refusal means: status and OCI error body to one of our errors.

Source: distribution-spec, Error Codes.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from sampan.distribution.registry.transport import Response
from sampan.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    SampanError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)

__all__ = ["printable", "refusal", "show_warnings"]

log = logging.getLogger(__name__)

_BODY_MAX = 64 << 10
_BY_STATUS: dict[int, type[SampanError]] = {
    400: FailedPrecondition,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    408: Unavailable,
    409: Aborted,
    413: ResourceExhausted,
    416: OutOfRange,
    429: ResourceExhausted,
}


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""
    detail: Any = None


class _Errors(msgspec.Struct):
    errors: list[_Error] = []


async def refusal(response: Response, what: str, host: str) -> SampanError:
    """Return the error for an answer that was not hoped for; it reads the rest of the body.

    Args:
      response: The answer.
      what: What was tried on what: `blob sha256:…`.
      host: Whom we asked.
    """
    status = response.status
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else Unknown)
    said = ""
    try:
        said = _said(await response.read(_BODY_MAX))
    except SampanError:
        log.debug("error body was not readable: host=%s status=%d", host, status)
    return kind(f"{what}: {host} answered {status}{': ' if said else ''}{said}")


def show_warnings(response: Response, host: str) -> None:
    """Log the Warning headers that a registry sends to people."""
    for line in response.warnings[:10]:
        log.warning("registry warns: %s host=%s", printable(line), host)


def printable(text: str) -> str:
    """Return a peer's text without control characters, which could rewrite a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:500])


def _said(body: bytes) -> str:
    try:
        errors = msgspec.json.decode(body, type=_Errors).errors
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return printable("; ".join(f"{error.code} {error.message}".strip() for error in errors[:5]))
