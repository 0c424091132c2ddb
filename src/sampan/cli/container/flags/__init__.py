"""The flags that `run` and `create` share, and what they ask for: docker's grammar, by topic.

process     command, environment, user, terminal, labels, what happens at the end
mounts      -v, --mount, --tmpfs, --shm-size
limits      memory, CPU, pids, block I/O, --ulimit
isolation   namespaces, capabilities, devices, seccomp and its kin
networking  --network, -p, names and addresses
logging     --log-driver
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cli.container.flags import isolation, limits, logging, mounts, networking, process

if TYPE_CHECKING:
    import argparse

    from sampan.client.networking import Networking
    from sampan.client.spec.request import Request

__all__ = ["add", "labels_of", "networking_of", "request_of"]


def add(parser: argparse.ArgumentParser, *, image: str | None = None) -> None:
    """Add them; `image` is `?` where it may be left out."""
    for topic in (process, mounts, limits, isolation, networking, logging):
        topic.add(parser)
    about = "an image, or host: for this host's own programs"
    parser.add_argument("image", nargs=image, default="", help=about)
    parser.add_argument("args", nargs="...", help="command and its arguments")


def request_of(args: argparse.Namespace) -> Request:
    """Return what the flags ask of the container itself.

    Raises:
      InvalidArgument: one is malformed.
    """
    from sampan.client.spec.request import Request

    return Request(
        limits=limits.limits_of(args),
        rlimits=limits.rlimits_of(args),
        **mounts.fields(args),
        **process.fields(args),
        **isolation.fields(args),
        **networking.fields(args),
    )


def networking_of(args: argparse.Namespace) -> Networking:
    """Return what the flags ask of the network.

    Raises:
      InvalidArgument: one is malformed, or contradicts another.
    """
    return networking.networking_of(args)


def labels_of(args: argparse.Namespace) -> dict[str, str]:
    """Return the labels of the container's record: the user's, and how we shall treat it."""
    return {**process.labels(args), **logging.labels(args), **networking.labels(args)}
