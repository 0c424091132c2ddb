"""A request made whole before config.json is built: volumes, networks, other containers by name.

What the caller wrote as a name becomes a path here, and what the image says about ports is added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sampan.client import networking
from sampan.client.networking import Networking
from sampan.client.spec.request import Request, Volume
from sampan.client.volumes import LABEL, Volumes
from sampan.concurrency import to_thread
from sampan.errors import FailedPrecondition, SampanError

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.client.containers import Folder
    from sampan.model.image import ContainerConfig

__all__ = ["settled"]


async def settled(
    client: Client,
    folder: Folder,
    request: Request,
    wanted: Networking | None,
    config: ContainerConfig | None,
) -> tuple[Request, dict[str, str]]:
    """Return the request with paths in place of names, and labels of the container's record.

    Raises:
      NotFound: no such container, network or volume.
      FailedPrecondition: the container whose namespace is to be shared does not run.
      InvalidArgument: what is asked of the network contradicts itself.
    """
    labels = {}
    volumes, names = await _volumes(client, request.volumes)
    if names:
        labels[LABEL] = ",".join(names)
    request = replace(
        request, volumes=volumes, namespaces=await _namespaces(client, request.namespaces)
    )
    if wanted is None:
        return request, labels
    exposed = tuple((config and config.exposed_ports) or ())
    # `host:` needs neither image nor network: it has one only when asked for.
    default = "bridge" if config is not None and _can_connect(client) else "none"
    wanted = networking.with_defaults(wanted, default=default, exposed=exposed)
    request = replace(request, network=await networking.path(client, folder.id, wanted))
    taken = {volume.target for volume in volumes}
    if request.network != "host" and (config is not None or wanted.names[0] != "none"):
        hostname = request.hostname or folder.id[:12]
        made = await to_thread(networking.files, folder, wanted, hostname)
        more = tuple(one for one in made if one.target not in taken)
        request = replace(request, volumes=(*request.volumes, *more))
    return request, {**labels, **wanted.labels()}


def _can_connect(client: Client) -> bool:
    if client.rootless:
        return False
    try:
        return client.networks is not None
    except SampanError:
        return False


async def _volumes(
    client: Client, asked: tuple[Volume, ...]
) -> tuple[tuple[Volume, ...], list[str]]:
    """Return the volumes as mounts, and the names of those that are ours."""
    found: list[Volume] = []
    names: list[str] = []
    store = Volumes(client)
    for one in asked:
        if one.type == "volume":
            volume = await store.create(one.source, exist_ok=True)
            names.append(volume.name)
            found.append(Volume(str(volume.path), one.target, one.options))
        elif one.type == "from":
            found += await _of_other(client, one.source, names)
        else:
            found.append(one)
    return tuple(found), list(dict.fromkeys(names))


async def _of_other(client: Client, text: str, names: list[str]) -> list[Volume]:
    """Return the volumes of another container, as `--volumes-from NAME[:ro]` means them."""
    from sampan.client.containers import find

    reference, _, mode = text.partition(":")
    other = await find(client, reference)
    names += [name for name in other.labels.get(LABEL, "").split(",") if name]
    own = f"{client.root}/containers/"
    mounts = (json.loads(other.spec.value).get("mounts")) or []
    return [
        Volume(
            mount["source"],
            mount["destination"],
            (*(o for o in mount.get("options", ()) if o not in ("ro", "rw")), mode or "rw"),
        )
        for mount in mounts
        if mount.get("type") == "bind" and not mount["source"].startswith(own)
    ]


async def _namespaces(client: Client, asked: Mapping[str, str]) -> dict[str, str]:
    from sampan.client.containers import find, view

    found = dict(asked)
    for kind, text in found.items():
        if not text.startswith("container:"):
            continue
        other = await find(client, text.removeprefix("container:"))
        seen = await view(client, other)
        if seen.task is None or seen.state != "running":
            raise FailedPrecondition(
                f"container {seen.name} is {seen.state}: start it, to share its {kind} namespace"
            )
        found[kind] = f"/proc/{seen.task.pid}/ns/{kind}"
    return found
