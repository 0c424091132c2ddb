"""Flags about where a container's output is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cli.output import parse_size
from sampan.errors import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "labels"]


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument(
        "--log-driver", default="json-file", metavar="json-file|none", help="where output is kept"
    )
    parser.add_argument(
        "--log-opt",
        action="append",
        default=[],
        metavar="max-size=10m",
        help="max-size=BYTES, max-file=N",
    )


def labels(args: argparse.Namespace) -> dict[str, str]:
    """Return the labels that tell the client how to log.

    Raises:
      InvalidArgument: an option is unknown or malformed.
    """
    if args.log_driver in ("journald", "syslog"):
        raise Unimplemented(f"--log-driver {args.log_driver} is not there yet")
    if args.log_driver not in ("json-file", "none", "local"):
        raise InvalidArgument(f"log driver {args.log_driver!r} is neither json-file nor none")
    found = {"sampan/log-driver": "none"} if args.log_driver == "none" else {}
    for text in args.log_opt:
        key, equals, value = text.partition("=")
        if key == "max-size" and equals:
            found["sampan/log-max-size"] = str(parse_size(value))
        elif key == "max-file" and value.isascii() and value.isdigit() and int(value):
            found["sampan/log-max-file"] = value
        else:
            raise InvalidArgument(f"log option {text!r}: there are max-size=BYTES and max-file=N")
    return found
