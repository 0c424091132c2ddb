"""Every deliberate error of Sampan, drawn as a tree; this is also its order in the tables of codes.

    SampanError
    ├── InvalidArgument        the request can never succeed as it stands
    │   └── OutOfRange         an offset or number lies outside what exists now
    ├── NotFound               the named thing does not exist
    ├── AlreadyExists          a thing of that name exists
    ├── FailedPrecondition     the state of the system forbids it; change that first
    ├── Aborted                a concurrent change won; start again from reading
    ├── PermissionDenied       the caller may not
    ├── Unauthenticated        the caller has not said, or not proven, who it is
    ├── ResourceExhausted      a quota, a cap, or the disk is used up
    ├── Unavailable            not now; the same call may succeed later
    ├── Unimplemented          this host, kernel or build cannot do it
    ├── Canceled               the caller gave up
    ├── DeadlineExceeded       the time allowed ran out
    ├── DataLoss               stored or received bytes are not what they claim to be
    ├── Internal               a promise of our own code is broken; report it
    └── Unknown                a peer failed in words we cannot classify

Classes say what the caller may do, as containerd's errdefs do; the message says what was tried, on
what, and what to do. Codes and exit numbers stand in `rpc/status.py`, `cli/exit.py` and
`oci/main.py` only. `sampan.linux` raises OSError; a room translates it where it adds meaning.
"""

from __future__ import annotations

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Canceled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "SampanError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
]


class SampanError(Exception):
    """Base of every error that Sampan raises on purpose."""


class InvalidArgument(SampanError):
    """The request can never succeed as it stands."""


class OutOfRange(InvalidArgument):
    """An offset or number lies outside what exists now."""


class NotFound(SampanError):
    """The named thing does not exist."""


class AlreadyExists(SampanError):
    """A thing of that name exists already."""


class FailedPrecondition(SampanError):
    """The state of the system forbids it; change that first."""


class Aborted(SampanError):
    """A concurrent change won; start again from reading."""


class PermissionDenied(SampanError):
    """The caller may not do this."""


class Unauthenticated(SampanError):
    """The caller has not said, or not proven, who it is."""


class ResourceExhausted(SampanError):
    """A quota, a cap, or the disk is used up."""


class Unavailable(SampanError):
    """Not now; the same call may succeed later."""


class Unimplemented(SampanError):
    """This host, kernel or build cannot do it."""


class Canceled(SampanError):
    """The caller gave up."""


class DeadlineExceeded(SampanError):
    """The time allowed ran out."""


class DataLoss(SampanError):
    """Stored or received bytes are not what they claim to be."""


class Internal(SampanError):
    """A promise of our own code is broken; report it."""


class Unknown(SampanError):
    """A peer failed in words that we cannot classify."""
