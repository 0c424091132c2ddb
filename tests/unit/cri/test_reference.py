"""docs/reference/cri.md: each field of the protocol, what becomes of it, and its test.

`SAMPAN_WRITE_REFERENCE=1 pytest tests/unit/cri/test_reference.py` writes it anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.api.cri.v1 import api_pb2 as pb

TESTS = Path(__file__).parents[2]
PAGE = TESTS.parent / "docs/reference/cri.md"
DESCRIPTOR: Any = pb.DESCRIPTOR

PODS = "integration/cri/test_sandboxes.py"
CONTAINERS = "integration/cri/test_containers.py"
IMAGES = "integration/cri/test_images.py"
NODE = "integration/cri/test_node.py"
SPEC = "unit/cri/test_spec.py"
STORE = "integration/cri/test_store.py"
CHECKPOINTS = "integration/cri/test_checkpoints.py"
CRITEST = "conformance/cri/test_critest.py"
STREAMS = "integration/cri/streaming/test_server.py"
FIGURES = "unit/cri/stats/test_messages.py"
METRICS = "unit/cri/stats/test_metrics.py"

WORDS = {
    "Checkpoint": CHECKPOINTS, "Restore": CHECKPOINTS,
    "Stats": FIGURES, "Usage": FIGURES, "Psi": FIGURES, "UInt64": FIGURES, "Metric": METRICS,
    "Exec": CONTAINERS, "Attach": STREAMS, "PortForward": STREAMS, "Image": IMAGES,
    "Auth": IMAGES, "Filesystem": IMAGES, "Version": NODE, "Status": NODE, "RuntimeC": NODE,
    "RuntimeH": NODE, "RuntimeF": NODE, "NetworkConfig": NODE, "UpdatePod": NODE,
    "LinuxRuntime": NODE, "UpdateRuntime": NODE,
    "Sandbox": PODS, "Pod": PODS, "DNS": PODS, "PortMapping": CRITEST, "UserNamespace": CONTAINERS,
    "NamespaceOption": PODS, "Namespace": PODS, "IDMapping": CONTAINERS,
    "Device": SPEC, "CDI": SPEC, "Hugepage": SPEC, "Capability": SPEC, "SecurityProfile": SPEC,
    "KeyValue": SPEC, "Int64": SPEC,
}  # fmt: skip
"""The test of a message, by what its name contains; the first that fits counts. Else containers."""

EXACT = {
    "ContainerStatus": CONTAINERS, "ContainerStatusRequest": CONTAINERS,
    "ContainerStatusResponse": CONTAINERS, "PodSandboxStatus": PODS,
    "PodSandboxStatusRequest": PODS, "PodSandboxStatusResponse": PODS,
    "LinuxPodSandboxStatus": PODS, "PodSandboxNetworkStatus": PODS, "Mount": CONTAINERS,
    "ImageSpec": IMAGES, "LinuxSandboxSecurityContext": PODS,
}  # fmt: skip

NOTES = {
    "PodSandboxConfig.windows": "ignored: this is Linux",
    "ContainerConfig.windows": "ignored: this is Linux",
    "LinuxSandboxSecurityContext.selinux_options": "kept and told; the kernel needs SELinux",
    "LinuxContainerSecurityContext.selinux_options": "kept and told; the kernel needs SELinux",
    "Mount.selinux_relabel": "has no effect without SELinux in the kernel",
    "LinuxSandboxSecurityContext.seccomp_profile_path": "deprecated; the holder has no filter",
    "LinuxContainerSecurityContext.seccomp_profile_path": "deprecated, and honoured",
    "LinuxContainerSecurityContext.apparmor_profile": "deprecated, and honoured",
    "LinuxContainerSecurityContext.apparmor": "a profile of the node that is not loaded is refused",
    "LinuxSandboxSecurityContext.run_as_user": "kept; pods have no process to run as anybody",
    "LinuxSandboxSecurityContext.run_as_group": "kept; likewise",
    "LinuxSandboxSecurityContext.readonly_rootfs": "kept; likewise: a holder's root is read-only",
    "LinuxSandboxSecurityContext.supplemental_groups": "kept; likewise",
    "LinuxSandboxSecurityContext.supplemental_groups_policy": "kept; likewise",
    "LinuxSandboxSecurityContext.privileged": "kept; containers ask for themselves",
    "LinuxSandboxSecurityContext.seccomp": "kept; containers ask for themselves",
    "LinuxSandboxSecurityContext.apparmor": "kept; containers ask for themselves",
    "Mount.mount_options": "noexec, nodev and nosuid; others are refused",
    "Mount.image": "a read-only view of the image; `image_ref` is filled in the status",
    "Mount.image_sub_path": "resolved inside the image; may not lead out",
    "Mount.recursive_read_only": "needs readonly and private propagation, or is refused",
    "Mount.propagation": "bidirectional needs a shared mount on the host, or is refused",
    "UserNamespace.mode": "POD or NODE; others are refused",
    "UserNamespace.uids": "one range that begins at the container's 0; others are refused",
    "UserNamespace.gids": "the same range as `uids`",
    "NamespaceOption.pid": "POD makes a holder, CONTAINER and NODE need none",
    "NamespaceOption.target_id": "a running container of the same pod",
    "ExecSyncRequest.timeout": "0 waits; at the end the whole process tree is killed",
    "ExecSyncResponse.stdout": "16 MiB at most",
    "ExecSyncResponse.stderr": "16 MiB at most",
    "ImageSpec.runtime_handler": "kept and told; images are for this node's platform",
    "ImageSpec.annotations": "kept and told",
    "PullImageRequest.sandbox_config": "not needed: credentials come with the request",
    "LinuxContainerResources.hugepage_limits": "unless `disable_hugetlb_controller`",
    "LinuxContainerResources.memory_swap_limit_in_bytes": "where the kernel accounts swap",
    "LinuxContainerResources.oom_score_adj": "no lower than ours where we may not lower it",
    "KeyValue.value": "any bytes but NUL",
    "UpdateContainerResourcesRequest.annotations": "not needed by any of our handlers",
    "CheckpointPodRequest.options": "unknown options are refused",
    "RestorePodRequest.options": "unknown options are refused",
    "VersionRequest.version": "not needed: there is one version",
}


def messages() -> Iterator[Any]:
    """Those of this platform, in the protocol's order."""
    for name, message in DESCRIPTOR.message_types_by_name.items():
        if not name.startswith("Windows"):
            yield message


def shown_by(name: str) -> str:
    if name in EXACT:
        return EXACT[name]
    return next((test for word, test in WORDS.items() if word in name), CONTAINERS)


def lines() -> Iterator[str]:
    yield "# CRI: field by field"
    yield ""
    yield "Written by `tests/unit/cri/test_reference.py`. A field without a remark is honoured as"
    yield "the protocol describes it; what cannot be is refused with an error that names it."
    yield "Messages for Windows are left out: they are ignored."
    for service in DESCRIPTOR.services_by_name.values():
        yield ""
        yield f"## {service.name}"
        yield ""
        yield "| method | request | answer |"
        yield "|---|---|---|"
        for method in service.methods:
            answer = f"`{method.output_type.name}`"
            if method.server_streaming:
                answer += ", a stream"
            yield f"| {method.name} | `{method.input_type.name}` | {answer} |"
    for message in messages():
        yield ""
        yield f"## {message.name}"
        yield ""
        if not message.fields:
            yield "Has no fields."
            continue
        yield f"Test: `tests/{shown_by(message.name)}`."
        yield ""
        yield "| field | remark |"
        yield "|---|---|"
        for field in message.fields:
            yield f"| `{field.name}` | {NOTES.get(f'{message.name}.{field.name}', '')} |"
    yield ""


def test_the_page_is_up_to_date() -> None:
    text = "\n".join(lines())
    if os.environ.get("SAMPAN_WRITE_REFERENCE") == "1":
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text)
    assert PAGE.read_text() == text


def test_remarks_are_about_fields_that_exist() -> None:
    fields = {f"{m.name}.{f.name}" for m in messages() for f in m.fields}
    assert set(NOTES) - fields == set()


@pytest.mark.parametrize("test", sorted({*WORDS.values(), *EXACT.values()}))
def test_tests_exist(test: str) -> None:
    assert (TESTS / test).exists()
