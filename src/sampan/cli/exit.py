"""Exit statuses, as docker has them: the container's own, and ours around them."""

from __future__ import annotations

from typing import Final

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

__all__ = ["CODES", "ENGINE", "NOT_EXECUTABLE", "NOT_FOUND", "USAGE", "of_start"]

USAGE: Final = 125
"""Bad flags to run, create and exec; other verbs say 1, as docker does."""
ENGINE: Final = 125
"""`run` could not get as far as the container's own program."""
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127

CODES: Final[dict[type[SampanError], int]] = dict.fromkeys(
    (
        Aborted, AlreadyExists, Canceled, DataLoss, DeadlineExceeded, FailedPrecondition, Internal,
        InvalidArgument, NotFound, OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated,
        Unavailable, Unimplemented, Unknown,
    ),
    1,
)  # fmt: skip
"""Of verbs that run no program in a container: one number, as docker's client."""


def of_start(error: SampanError) -> int:
    """Return the status for a program that could not be started."""
    text = str(error).lower()
    if "executable file not found" in text or "no such file or directory" in text:
        return NOT_FOUND
    if any(word in text for word in ("permission denied", "is a directory", "exec format error")):
        return NOT_EXECUTABLE
    return ENGINE
