"""Which module has which verb. Verbs without module are promised, and say so."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["COMMANDS", "LATER", "NOUNS", "Command"]


class Command(NamedTuple):
    """A verb."""

    module: str
    """Below `sampan.cli`."""
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "run": Command("container.run", "create and start a container"),
    "create": Command("container.create", "create a container without starting it"),
    "start": Command("container.start", "start a created or stopped container"),
    "stop": Command("container.stop", "stop containers: their stop signal, then SIGKILL"),
    "restart": Command("container.restart", "stop containers and start them again"),
    "kill": Command("container.kill", "send a signal to containers"),
    "rm": Command("container.rm", "remove containers"),
    "ps": Command("container.ps", "list containers"),
    "logs": Command("container.logs", "show what a container has written"),
    "exec": Command("container.exec", "run a program in a running container"),
    "attach": Command("container.attach", "connect to a running container's stdio"),
    "wait": Command("container.wait", "wait for containers to end; print their exit statuses"),
    "inspect": Command("container.inspect", "show containers or images as JSON"),
    "top": Command("container.top", "show the processes of a container"),
    "pause": Command("container.pause", "freeze containers"),
    "unpause": Command("container.unpause", "let paused containers go on"),
    "stats": Command("container.stats", "show what containers use"),
    "rename": Command("container.rename", "give a container another name"),
    "pull": Command("image.pull", "fetch an image from a registry"),
    "push": Command("image.push", "send an image to a registry"),
    "images": Command("image.images", "list images"),
    "rmi": Command("image.rmi", "remove images"),
    "tag": Command("image.tag", "give an image another name"),
    "save": Command("image.save", "write images to an archive"),
    "load": Command("image.load", "read images from an archive"),
    "image from-host": Command("image.from_host", "make an image of programs of this host"),
    "events": Command("system.events", "show events as they happen"),
    "version": Command("system.version", "show the version"),
    "info": Command("system.info", "show what this installation and machine are"),
    "system prune": Command("system.prune", "remove what nothing uses"),
}

NOUNS: Final[dict[str, dict[str, str]]] = {
    "container": {
        verb: verb for verb, command in COMMANDS.items() if command.module.startswith("container.")
    } | {"ls": "ps", "list": "ps", "prune": "system prune"},
    "image": {
        "pull": "pull", "push": "push", "ls": "images", "list": "images", "rm": "rmi", "tag": "tag",
        "save": "save", "load": "load", "inspect": "inspect", "from-host": "image from-host",
        "prune": "system prune",
    },
    "system": {"prune": "system prune", "info": "info", "events": "events"},
}  # fmt: skip

LATER: Final = (
    "bundle", "commit", "cp", "diff", "doctor", "export", "history", "login", "logout", "network",
    "pod", "port", "update", "volume",
)  # fmt: skip
