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
    "update": Command("container.update", "change limits or the restart policy of containers"),
    "port": Command("container.port", "show which ports of the host lead into a container"),
    "cp": Command("container.cp", "copy files into a container or out of it"),
    "diff": Command("container.diff", "show what a container has changed of its files"),
    "commit": Command("container.commit", "make an image of what a container has written"),
    "export": Command("container.export", "write a container's files as a tar archive"),
    "container prune": Command("container.prune", "remove all stopped containers"),
    "pull": Command("image.pull", "fetch an image from a registry"),
    "push": Command("image.push", "send an image to a registry"),
    "images": Command("image.images", "list images"),
    "rmi": Command("image.rmi", "remove images"),
    "tag": Command("image.tag", "give an image another name"),
    "save": Command("image.save", "write images to an archive"),
    "load": Command("image.load", "read images from an archive"),
    "history": Command("image.history", "show how an image was made"),
    "image inspect": Command("image.inspect", "show images as JSON"),
    "image prune": Command("image.prune", "remove images that nothing uses"),
    "image from-host": Command("image.from_host", "make an image of programs of this host"),
    "events": Command("system.events", "show events as they happen"),
    "version": Command("system.version", "show the version"),
    "info": Command("system.info", "show what this installation and machine are"),
    "volume create": Command("volume.create", "make a volume"),
    "volume ls": Command("volume.ls", "list volumes"),
    "volume inspect": Command("volume.inspect", "show volumes as JSON"),
    "volume rm": Command("volume.rm", "remove volumes"),
    "volume prune": Command("volume.prune", "remove volumes that no container uses"),
    "network create": Command("network.create", "make a bridge network"),
    "network ls": Command("network.ls", "list networks"),
    "network inspect": Command("network.inspect", "show networks as JSON"),
    "network rm": Command("network.rm", "remove networks"),
    "network prune": Command("network.prune", "remove networks that no container uses"),
    "bundle unpack": Command("bundle.unpack", "make a bundle of an image, for any OCI runtime"),
    "login": Command("system.login", "keep credentials for a registry"),
    "logout": Command("system.logout", "forget them"),
    "doctor": Command("system.doctor", "tell what this machine can do for containers"),
    "completion": Command("system.completion", "print a script that completes in your shell"),
    "system df": Command("system.df", "show what takes room on the disk"),
    "system prune": Command("system.prune", "remove what nothing uses"),
}

NOUNS: Final[dict[str, dict[str, str]]] = {
    "container": {
        verb: verb
        for verb, command in COMMANDS.items()
        if command.module.startswith("container.") and " " not in verb
    } | {"ls": "ps", "list": "ps", "prune": "container prune"},
    "image": {
        "pull": "pull", "push": "push", "ls": "images", "list": "images", "rm": "rmi", "tag": "tag",
        "save": "save", "load": "load", "history": "history", "inspect": "image inspect",
        "from-host": "image from-host", "prune": "image prune",
    },
    "volume": {verb: f"volume {verb}" for verb in ("create", "ls", "inspect", "rm", "prune")}
    | {"list": "volume ls", "remove": "volume rm"},
    "network": {verb: f"network {verb}" for verb in ("create", "ls", "inspect", "rm", "prune")}
    | {"list": "network ls", "remove": "network rm"},
    "bundle": {"unpack": "bundle unpack"},
    "system": {
        "prune": "system prune", "info": "info", "events": "events", "df": "system df",
    },
}  # fmt: skip

LATER: Final = ("build", "compose", "import", "pod")
