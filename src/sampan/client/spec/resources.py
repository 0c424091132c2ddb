"""`linux.resources`: limits as docker's flags count them, as the runtime-spec writes them."""

from __future__ import annotations

import os
from typing import Final

from sampan.client.spec.request import DeviceRate, Limits
from sampan.errors import InvalidArgument
from sampan.model.runtime.resources import (
    CPU,
    BlockIO,
    DeviceRule,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
    WeightDevice,
)

__all__ = ["resources_of"]

_PERIOD_US: Final = 100_000
_LEAST_BYTES: Final = 6 << 20
"""Docker's and podman's least memory limit: with less a container cannot even start."""


def resources_of(limits: Limits, rules: tuple[DeviceRule, ...]) -> Resources:
    """Return the resources.

    Args:
      limits: Policy.
      rules: Of devices, whole.

    Raises:
      InvalidArgument: limits contradict each other, or a device does not exist.
    """
    if limits.pids < -1:
        raise InvalidArgument(f"pids limit {limits.pids}: write a positive number, or -1 for none")
    return Resources(
        devices=rules,
        memory=_memory(limits),
        cpu=_cpu(limits),
        pids=Pids(limit=limits.pids) if limits.pids else None,
        block_io=_block_io(limits),
    )


def _memory(limits: Limits) -> Memory | None:
    limit, both = limits.memory_bytes, limits.memory_swap_bytes
    if 0 < limit < _LEAST_BYTES:
        raise InvalidArgument(f"memory limit of {limit} bytes is too small: at least 6m is needed")
    if both and not limit:
        raise InvalidArgument("a limit on memory and swap needs one on memory, too")
    if 0 < both < limit:
        raise InvalidArgument("the limit on memory and swap is smaller than the one on memory")
    if limits.memory_reservation_bytes > limit > 0:
        raise InvalidArgument("the memory reservation is larger than the memory limit")
    swappiness = limits.memory_swappiness
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise InvalidArgument(f"memory swappiness {swappiness} is not from 0 to 100")
    found = Memory(
        limit=limit or None,
        swap=both or None,
        reservation=limits.memory_reservation_bytes or None,
        swappiness=swappiness,
        disable_oom_killer=limits.oom_kill_disable or None,
    )
    return None if found == Memory() else found


def _cpu(limits: Limits) -> CPU | None:
    if limits.cpus and (limits.cpu_period_us or limits.cpu_quota_us):
        raise InvalidArgument("give cpus, or period and quota, not both")
    period, quota = limits.cpu_period_us, limits.cpu_quota_us
    if limits.cpus:
        period, quota = _PERIOD_US, round(limits.cpus * _PERIOD_US)
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidArgument(f"cpu period {period} is not from 1000 to 1000000 microseconds")
    if 0 < quota < 1000:
        raise InvalidArgument(f"cpu quota {quota} is under 1000 microseconds")
    found = CPU(
        shares=limits.cpu_shares or None,
        period=period or None,
        quota=quota or None,
        realtime_period=limits.cpu_rt_period_us or None,
        realtime_runtime=limits.cpu_rt_runtime_us or None,
        cpus=limits.cpuset_cpus,
        mems=limits.cpuset_mems,
    )
    return None if found == CPU() else found


def _block_io(limits: Limits) -> BlockIO | None:
    weight = limits.blkio_weight
    if weight and not 10 <= weight <= 1000:
        raise InvalidArgument(f"block I/O weight {weight} is not from 10 to 1000")
    if not weight and not limits.device_rates:
        return None

    def rates(kind: str) -> tuple[ThrottleDevice, ...]:
        return tuple(_throttle(one) for one in limits.device_rates if one.kind == kind)

    weights = [one for one in limits.device_rates if one.kind == "weight"]
    numbers = [_numbers(one.path) for one in weights]
    return BlockIO(
        weight=weight or None,
        weight_device=tuple(
            WeightDevice(major=major, minor=minor, weight=one.rate)
            for one, (major, minor) in zip(weights, numbers, strict=True)
        ),
        throttle_read_bps_device=rates("read-bps"),
        throttle_write_bps_device=rates("write-bps"),
        throttle_read_iops_device=rates("read-iops"),
        throttle_write_iops_device=rates("write-iops"),
    )


def _throttle(one: DeviceRate) -> ThrottleDevice:
    major, minor = _numbers(one.path)
    return ThrottleDevice(major=major, minor=minor, rate=one.rate)


def _numbers(path: str) -> tuple[int, int]:
    try:
        device = os.stat(path).st_rdev
    except OSError as err:
        raise InvalidArgument(f"device {path}: {err.strerror}") from err
    if not device:
        raise InvalidArgument(f"device {path}: it is no device")
    return os.major(device), os.minor(device)
