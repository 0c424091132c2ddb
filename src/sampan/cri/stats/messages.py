"""Figures as messages of the CRI: pure functions. What is not known stays unset."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.stats import Layer
from sampan.cri.stats.collect import Figures, Pressure
from sampan.cri.stats.interfaces import DEFAULT_INTERFACE, Interface

__all__ = ["container_stats", "network_usage", "pod_stats", "writable_layer"]


def container_stats(
    attributes: pb.ContainerAttributes,
    figures: Figures | None,
    nano_cores: int | None = None,
    layer: Layer | None = None,
) -> pb.ContainerStats:
    """Return what ContainerStats answers; of a container that does not run, its layer alone."""
    made = pb.ContainerStats(attributes=attributes)
    if layer is not None:
        made.writable_layer.CopyFrom(writable_layer(layer))
    if figures is None:
        return made
    made.cpu.CopyFrom(_cpu(figures, nano_cores))
    made.memory.CopyFrom(_memory(figures))
    made.io.CopyFrom(_io(figures))
    if figures.swap_bytes is not None:
        made.swap.CopyFrom(_swap(figures))
    return made


def pod_stats(
    attributes: pb.PodSandboxAttributes,
    figures: Figures | None,
    nano_cores: int | None,
    network: Sequence[Interface] | None,
    network_ns: int,
    containers: Sequence[pb.ContainerStats],
) -> pb.PodSandboxStats:
    """Return what PodSandboxStats answers."""
    made = pb.PodSandboxStats(attributes=attributes)
    linux = made.linux
    linux.containers.extend(containers)
    if network:
        linux.network.CopyFrom(network_usage(network, network_ns))
    if figures is not None:
        linux.cpu.CopyFrom(_cpu(figures, nano_cores))
        linux.memory.CopyFrom(_memory(figures))
        linux.io.CopyFrom(_io(figures))
        linux.process.timestamp = figures.timestamp_ns
        linux.process.process_count.value = len(figures.pids)
    return made


def writable_layer(layer: Layer) -> pb.FilesystemUsage:
    """Return the usage of a container's writable layer."""
    return pb.FilesystemUsage(
        timestamp=layer.timestamp_ns,
        fs_id=pb.FilesystemIdentifier(mountpoint=layer.mountpoint),
        used_bytes=_number(layer.used_bytes),
        inodes_used=_number(layer.inodes),
    )


def network_usage(interfaces: Sequence[Interface], timestamp_ns: int) -> pb.NetworkUsage:
    """Return all interfaces; the first one is the default when none has the usual name."""
    by_name = {one.name: one for one in interfaces}
    default = by_name.get(DEFAULT_INTERFACE, interfaces[0])
    return pb.NetworkUsage(
        timestamp=timestamp_ns,
        default_interface=_interface(default),
        interfaces=[_interface(one) for one in interfaces if one is not default],
    )


def _interface(one: Interface) -> pb.NetworkInterfaceUsage:
    return pb.NetworkInterfaceUsage(
        name=one.name,
        rx_bytes=_number(one.rx_bytes),
        rx_errors=_number(one.rx_errors),
        tx_bytes=_number(one.tx_bytes),
        tx_errors=_number(one.tx_errors),
    )


def _cpu(figures: Figures, nano_cores: int | None) -> pb.CpuUsage:
    made = pb.CpuUsage(timestamp=figures.timestamp_ns)
    if figures.cpu_ns is not None:
        made.usage_core_nano_seconds.value = figures.cpu_ns
    if nano_cores is not None:
        made.usage_nano_cores.value = nano_cores
    if figures.cpu_pressure is not None:
        made.psi.CopyFrom(_pressure(figures.cpu_pressure))
    return made


def _memory(figures: Figures) -> pb.MemoryUsage:
    made = pb.MemoryUsage(timestamp=figures.timestamp_ns)
    if figures.memory_pressure is not None:
        made.psi.CopyFrom(_pressure(figures.memory_pressure))
    if figures.memory_bytes is None:
        return made
    made.usage_bytes.value = figures.memory_bytes
    made.working_set_bytes.value = figures.working_set_bytes
    made.rss_bytes.value = figures.rss_bytes
    made.page_faults.value = figures.page_faults
    made.major_page_faults.value = figures.major_page_faults
    limit = figures.memory_limit
    # Without a limit kubelet wants zero here, and works out what the node has left by itself.
    left = 0 if limit is None else max(0, limit - figures.working_set_bytes)
    made.available_bytes.value = left
    return made


def _swap(figures: Figures) -> pb.SwapUsage:
    used = figures.swap_bytes or 0
    made = pb.SwapUsage(timestamp=figures.timestamp_ns)
    made.swap_usage_bytes.value = used
    limit = figures.swap_limit
    made.swap_available_bytes.value = 0 if limit is None else max(0, limit - used)
    return made


def _io(figures: Figures) -> pb.IoUsage:
    made = pb.IoUsage(timestamp=figures.timestamp_ns)
    if figures.io_pressure is not None:
        made.psi.CopyFrom(_pressure(figures.io_pressure))
    return made


def _pressure(pressure: Pressure) -> pb.PsiStats:
    made = pb.PsiStats()
    for name, stall in (("Some", pressure.some), ("Full", pressure.full)):
        if stall is not None:
            data = pb.PsiData(
                Total=stall.total_ns, Avg10=stall.avg10, Avg60=stall.avg60, Avg300=stall.avg300
            )
            getattr(made, name).CopyFrom(data)
    return made


def _number(value: int) -> pb.UInt64Value:
    return pb.UInt64Value(value=value)
