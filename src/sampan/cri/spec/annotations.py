"""Annotations that shims of other runtimes look for, and those that a handler lets through."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb

if TYPE_CHECKING:
    from sampan.cri.store.records import Pod
    from sampan.engine.cri import RuntimeHandler

__all__ = ["annotations_of"]


def annotations_of(
    pod: Pod, config: pb.ContainerConfig, image_name: str, handler: RuntimeHandler | None
) -> dict[str, str]:
    """Return the annotations of a container's config.json."""
    meta = pod.config.metadata
    found = {}
    if handler is not None:
        found.update(_passed(pod.config.annotations, handler.pod_annotations))
        found.update(_passed(config.annotations, handler.container_annotations))
    prefix = "io.kubernetes.cri"
    found.update(
        {
            f"{prefix}.container-type": "container",
            f"{prefix}.container-name": config.metadata.name,
            f"{prefix}.sandbox-id": pod.id,
            f"{prefix}.sandbox-name": meta.name,
            f"{prefix}.sandbox-namespace": meta.namespace,
            f"{prefix}.sandbox-uid": meta.uid,
            f"{prefix}.image-name": image_name,
        }
    )
    return found


def _passed(given: object, globs: tuple[str, ...]) -> dict[str, str]:
    table: dict[str, str] = dict(given)  # type: ignore[call-overload]
    return {
        key: value for key, value in table.items() if any(fnmatchcase(key, glob) for glob in globs)
    }
