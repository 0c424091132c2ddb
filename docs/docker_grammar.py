"""Make docs/reference/docker.md: docker's flags beside ours, from `docker VERB --help` itself.

python docs/docker_grammar.py            write the page
python docs/docker_grammar.py --check    exit with 1 if it is not what both programs say
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from generate import parser_of

from sampan.cli.commands import COMMANDS

PAGE = Path(__file__).resolve().parent / "reference" / "docker.md"

VERBS = (
    "run", "create", "start", "stop", "restart", "kill", "rm", "ps", "logs", "exec", "attach",
    "wait", "inspect", "top", "pause", "unpause", "stats", "rename", "update", "port", "pull",
    "push", "images", "rmi", "tag", "save", "load", "history", "events", "version", "info", "login",
    "logout", "cp", "diff", "commit", "export", "volume create", "volume ls", "volume inspect",
    "volume rm", "volume prune", "network create", "network ls", "network inspect", "network rm",
    "network prune", "system df", "system prune", "container prune", "image inspect", "image prune",
)  # fmt: skip

DIFFERENT = {
    "--attach": "what is attached follows from -i, -t and -d",
    "--cpu-count": "of Windows", "--cpu-percent": "of Windows", "--io-maxbandwidth": "of Windows",
    "--io-maxiops": "of Windows", "--isolation": "of Windows",
    "--disable-content-trust": "image verifiers are plugins of the engine",
    "--kernel-memory": "Linux 5.11 dropped it", "--link": "networks resolve names",
    "--link-local-ip": "by the configuration of the network", "--storage-opt": "by snapshotter",
    "--volume-driver": "volumes are folders", "--use-api-socket": "there need be no daemon",
    "--gpus": "CDI devices through Kubernetes; else --device", "--detach-keys": "ctrl-p ctrl-q",
    "--checkpoint": "by sampan-oci", "--checkpoint-dir": "by sampan-oci",
    "--tls": "sockets are local", "--config-from": "CNI files", "--config-only": "CNI files",
    "--attachable": "swarm's", "--ingress": "swarm's", "--scope": "swarm's",
    "--aux-address": "CNI's host-local takes ranges", "--ipam-driver": "CNI's host-local",
    "--ipam-opt": "CNI's host-local", "--type": "swarm's", "--group": "swarm's",
    "--sharing": "swarm's", "--secret": "swarm's", "--topology-preferred": "swarm's",
    "--topology-required": "swarm's", "--availability": "swarm's", "--limit-bytes": "swarm's",
    "--required-bytes": "swarm's", "--cluster": "swarm's",
    "--tree": "an image is its index", "--ipv4": "always there",
}  # fmt: skip


def docker_flags(verb: str) -> list[str]:
    """Return the long names of docker's flags of a verb, as its own help has them."""
    command = ["docker", *verb.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", done.stdout, re.MULTILINE)


def our_flags(verb: str) -> set[str]:
    """Return our flags of a verb; none if the verb is not there."""
    if verb not in COMMANDS:
        return set()
    actions = parser_of(verb)._actions  # noqa: SLF001 - argparse has no other way to ask
    return {flag for action in actions for flag in action.option_strings}


def verdict(flag: str, ours: set[str]) -> str:
    """Return what the page says of one of docker's flags."""
    if flag in ours:
        return "same"
    if flag in DIFFERENT:
        return f"different: {DIFFERENT[flag]}"
    return "not yet"


def page() -> str:
    """Return the page."""
    lines = [
        "# Docker's flags and ours",
        "",
        "Made by `docs/docker_grammar.py` from `docker VERB --help` and from our parsers. Flags",
        "that only we have are in the [command line reference](cli.md).",
        "",
        "| verb | flag | here |",
        "|---|---|---|",
    ]
    counts = {"same": 0, "different": 0, "not yet": 0}
    for verb in VERBS:
        ours = our_flags(verb)
        if verb not in COMMANDS:
            lines.append(f"| `{verb}` | | the verb is not there yet |")
            continue
        for flag in docker_flags(verb):
            if flag != "--help":
                found = verdict(flag, ours)
                counts[found.partition(":")[0]] += 1
                lines.append(f"| `{verb}` | `{flag}` | {found} |")
    total = ", ".join(f"{count} {word}" for word, count in counts.items())
    lines.insert(4, f"In all: {total}.")
    lines.insert(5, "")
    return "\n".join([*lines, ""])


def main() -> int:
    """Entry point; returns the exit status."""
    text = page()
    if "--check" in sys.argv:
        if PAGE.exists() and PAGE.read_text() == text:
            return 0
        sys.stdout.write(f"{PAGE.name} is not what docker and we say\n")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
