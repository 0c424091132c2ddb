"""What is run: command, environment, folder."""

from __future__ import annotations

import os

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument
from sampan.model.image import ContainerConfig
from sampan.model.runtime.defaults import DEFAULT_PATH

__all__ = ["arguments_of", "environment_of", "folder_of"]


def arguments_of(config: pb.ContainerConfig, image: ContainerConfig) -> tuple[str, ...]:
    """Return argv: what the request leaves open is the image's, as Kubernetes documents it.

    Raises:
      InvalidArgument: nobody names a command.
    """
    command, args = tuple(config.command), tuple(config.args)
    if not command:
        command = image.entrypoint or ()
        if not args:
            args = image.cmd or ()
    if not command and not args:
        raise InvalidArgument("no command specified: neither the request nor the image has one")
    return (*command, *args)


def environment_of(
    config: pb.ContainerConfig, image: ContainerConfig, hostname: str
) -> tuple[str, ...]:
    """Return the environment; values may be any bytes but NUL.

    Raises:
      InvalidArgument: a name is empty or has `=` in it, or a NUL is somewhere.
    """
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        values["TERM"] = "xterm"
    for pair in image.env or ():
        name, _, value = pair.partition("=")
        values[name] = value
    for one in config.envs:
        raw: bytes | str = one.value
        text = os.fsdecode(raw)
        if not one.key or "=" in one.key or "\0" in one.key or "\0" in text:
            raise InvalidArgument(f"environment variable {one.key!r} cannot be set so")
        values[one.key] = text
    return tuple(f"{name}={value}" for name, value in values.items())


def folder_of(config: pb.ContainerConfig, image: ContainerConfig) -> str:
    """Return the working folder."""
    folder = config.working_dir or image.working_dir or "/"
    if not folder.startswith("/"):
        folder = f"/{folder}"
    return os.path.normpath(folder).replace("//", "/")
