"""config.json's resources as properties of a unit, lest systemd sets its own at the next reload.

Times are microseconds as systemd has them. Source: org.freedesktop.systemd1(5), the scope
interface; systemd.resource-control(5).
"""

from __future__ import annotations

from sampan.cgroups.v1.devices import boil_down
from sampan.cgroups.v2.cpu import weight_of_shares
from sampan.cgroups.v2.memory import swap_alone
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.model.runtime.resources import CPU, DeviceRule, Memory, Resources

__all__ = ["bits_of_list", "properties"]

_INFINITY = (1 << 64) - 1
_DEFAULT_PERIOD_US = 100_000
_PERIOD_RANGE_US = (1_000, 1_000_000)
_MOST_NUMBER = 8191


def properties(resources: Resources, *, v2: bool) -> list[tuple[str, tuple[str, Any]]]:
    """Return (name, variant) of each property that `resources` says something about."""
    found: list[tuple[str, tuple[str, Any]]] = []
    if resources.memory is not None:
        found += _memory(resources.memory, v2=v2)
    if resources.cpu is not None:
        found += _cpu(resources.cpu, v2=v2)
    if resources.pids is not None and resources.pids.limit is not None:
        limit = resources.pids.limit
        found.append(("TasksMax", ("t", _INFINITY if limit < 0 else max(limit, 1))))
    weight = resources.block_io.weight if resources.block_io is not None else None
    if weight:
        if v2:
            found.append(("IOWeight", ("t", 1 + (weight - 10) * 9999 // 990)))
        else:
            found.append(("BlockIOWeight", ("t", weight)))
    if resources.devices:
        found += _devices(resources.devices)
    return found


def _memory(memory: Memory, *, v2: bool) -> list[tuple[str, tuple[str, Any]]]:
    found: list[tuple[str, tuple[str, Any]]] = []
    if memory.limit:
        name = "MemoryMax" if v2 else "MemoryLimit"
        found.append((name, ("t", _INFINITY if memory.limit < 0 else memory.limit)))
    if v2 and memory.reservation:
        low = _INFINITY if memory.reservation < 0 else memory.reservation
        found.append(("MemoryLow", ("t", low)))
    swap = swap_alone(memory.limit, memory.swap) if v2 else None
    if swap is not None:
        found.append(("MemorySwapMax", ("t", _INFINITY if swap == "max" else int(swap))))
    return found


def _cpu(cpu: CPU, *, v2: bool) -> list[tuple[str, tuple[str, Any]]]:
    found: list[tuple[str, tuple[str, Any]]] = []
    if v2 and cpu.idle:
        found.append(("CPUWeight", ("t", 0)))  # systemd's word for idle, from version 252
    elif cpu.shares and v2:
        found.append(("CPUWeight", ("t", weight_of_shares(cpu.shares))))
    elif cpu.shares:
        found.append(("CPUShares", ("t", cpu.shares)))
    period = cpu.period or _DEFAULT_PERIOD_US
    if cpu.quota:
        per_second = _INFINITY
        if cpu.quota > 0:
            # systemd counts in steps of 10 ms a second, and would round down.
            per_second = -(-cpu.quota * 1_000_000 // period)
            per_second = -(-per_second // 10_000) * 10_000
        found.append(("CPUQuotaPerSecUSec", ("t", per_second)))
    if cpu.period and _PERIOD_RANGE_US[0] <= cpu.period <= _PERIOD_RANGE_US[1]:
        found.append(("CPUQuotaPeriodUSec", ("t", cpu.period)))
    if v2 and cpu.cpus:
        found.append(("AllowedCPUs", ("ay", list(bits_of_list(cpu.cpus)))))
    if v2 and cpu.mems:
        found.append(("AllowedMemoryNodes", ("ay", list(bits_of_list(cpu.mems)))))
    return found


def bits_of_list(text: str) -> bytes:
    """Return a list such as `0-2,5` as bits, least significant byte first."""
    bits = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise InvalidArgument(f"{text!r} is no list of numbers such as 0-2,5")
        if not int(first) <= int(last) <= _MOST_NUMBER:
            raise InvalidArgument(f"{text!r}: a range runs backwards, or beyond {_MOST_NUMBER}")
        bits |= (1 << int(last) + 1) - (1 << int(first))
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _devices(rules: tuple[DeviceRule, ...]) -> list[tuple[str, tuple[str, Any]]]:
    """Return the policy and the list that say the same as the rules, in systemd's words.

    Our own program, attached in place of systemd's, decides; this is for `systemctl show`, and for
    the moment after a reload in which systemd attaches its own again.
    """
    default_allow, exceptions = boil_down(rules)
    if default_allow:
        # It cannot say "all but": what it lets through is still refused by ours.
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    allowed: list[tuple[str, str]] = []
    for rule in sorted(exceptions):
        kind, numbers, access = rule.split()
        major, minor = (None if n == "*" else int(n) for n in numbers.split(":"))
        allowed += [(name, access) for name in _device_names(kind, major, minor)]
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", allowed))]


def _device_names(kind: str, major: int | None, minor: int | None) -> list[str]:
    group = "block" if kind == "b" else "char"
    if major is not None and minor is not None:
        return [f"/dev/{group}/{major}:{minor}"]  # systemd 240 and later need no such node
    if major is None:
        return [f"{group}-*"]
    return [f"{group}-{name}" for number, name in _groups(group) if number == major]


def _groups(group: str) -> list[tuple[int, str]]:
    """Return the names of device majors, of `char` or `block`. Source: proc(5), /proc/devices."""
    with open("/proc/devices") as file:
        text = file.read()
    character, _, block = text.partition("Block devices:")
    chosen = block if group == "block" else character
    pairs = [line.split() for line in chosen.splitlines()]
    return [(int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()]
