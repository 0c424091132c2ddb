"""From what a person asks (policy) and what an image says (content) to a config.json.

    spec = build(Request(args=("sh",), memory_bytes=64 << 20), image_config, root_fd=fd)

    request     Request, Volume: policy, already parsed
    build       the whole document
    users       user and group names, resolved in the container's own /etc/passwd

An image decides its entrypoint, environment, folder, user and stop signal, as docker lets it, and
nothing else: its labels and volumes never become mounts or options.
"""

from __future__ import annotations

from sampan.client.spec.request import Request, Volume

__all__ = ["Request", "Volume"]
