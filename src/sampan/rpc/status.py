"""Errors of ours <-> status codes of gRPC and ttrpc. This table is the only place for them.

containerd classifies an error by its code alone where it can; older shims send UNKNOWN with
errdefs' own words in the text, which `from_status` therefore reads, too.

Source: grpc/status codes; containerd errdefs.
"""

from __future__ import annotations

from sampan.errors import (
    Aborted,
    AlreadyExists,
    Canceled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
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

__all__ = ["CODES", "NAMES", "code_of", "from_status", "text_of"]

CODES: dict[type[SampanError], int] = {
    Canceled: 1,
    Unknown: 2,
    InvalidArgument: 3,
    DeadlineExceeded: 4,
    NotFound: 5,
    AlreadyExists: 6,
    PermissionDenied: 7,
    ResourceExhausted: 8,
    FailedPrecondition: 9,
    Aborted: 10,
    OutOfRange: 11,
    Unimplemented: 12,
    Internal: 13,
    Unavailable: 14,
    DataLoss: 15,
    Unauthenticated: 16,
}
"""One code for each class of error, and one class for each code but 0."""

NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""Names of the codes, by number."""

_CLASSES = {code: kind for kind, code in CODES.items()}

# errdefs' sentinel texts, as they end the message of an error that lost its code on the way.
_WORDS: dict[str, type[SampanError]] = {
    "not found": NotFound,
    "already exists": AlreadyExists,
    "failed precondition": FailedPrecondition,
    "invalid argument": InvalidArgument,
    "unavailable": Unavailable,
    "not implemented": Unimplemented,
}


def code_of(error: BaseException) -> int:
    """Return the code to send for `error`: that of its nearest class here, UNKNOWN for others."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    if isinstance(error, TimeoutError):
        return CODES[DeadlineExceeded]
    return CODES[Unknown]


def text_of(error: BaseException) -> str:
    """Return the text to send for `error`; a class of error without words gives its name."""
    return str(error) or type(error).__name__


def from_status(code: int, text: str) -> SampanError:
    """Return the error that a peer's status stands for; codes we do not know are Unknown."""
    kind = _CLASSES.get(code, Unknown)
    if kind is Unknown:
        for words, better in _WORDS.items():
            if text.endswith(words):
                kind = better
    return kind(text)
