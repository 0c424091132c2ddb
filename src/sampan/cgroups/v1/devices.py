"""devices of v1: an allow and a deny file, rules in order. Source: cgroup-v1/devices.rst."""

from __future__ import annotations

from sampan.cgroups.files import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.model.runtime.resources import DeviceRule, Resources

__all__ = ["CONTROLLER", "apply", "stats"]

CONTROLLER = "devices"


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Make the list what the rules say, without a moment in which an allowed device is denied.

    The rules are boiled down to what they allow. A list that denies by default is then changed by
    its differences; only one that still allows everything must be denied as a whole first, which
    happens before the container's first process.
    """
    if not resources.devices:
        return
    default_allow, wanted = boil_down(resources.devices)
    if default_allow:
        cgroup.write("devices.allow", "a")
        for rule in sorted(wanted):
            cgroup.write("devices.deny", rule)
        return
    current = set(cgroup.read("devices.list").splitlines())
    if "a *:* rwm" in current:
        cgroup.write("devices.deny", "a")
        current = set()
    for rule in sorted(wanted - current):
        cgroup.write("devices.allow", rule)
    for rule in sorted(current - wanted):
        # Denying `rw` where `rwm` is wanted would take from the wanted rule, too.
        kept = _access_of(rule, wanted)
        revoked = "".join(letter for letter in rule.split()[2] if letter not in kept)
        if revoked:
            cgroup.write("devices.deny", f"{rule.rsplit(' ', 1)[0]} {revoked}")


def _access_of(rule: str, rules: set[str]) -> str:
    device = rule.rsplit(" ", 1)[0]
    return "".join(r.rsplit(" ", 1)[1] for r in rules if r.rsplit(" ", 1)[0] == device)


def boil_down(rules: Sequence[DeviceRule]) -> tuple[bool, set[str]]:
    """Return whether the default is to allow, and the exceptions `type major:minor access`."""
    default_allow = False
    exceptions: dict[str, str] = {}
    for rule in rules:
        kind = rule.type or "a"
        if kind == "a" or (kind not in ("b", "c")):
            default_allow = rule.allow
            exceptions = {}
            continue
        where = f"{kind} {_number(rule.major)}:{_number(rule.minor)}"
        access = rule.access or "rwm"
        had = exceptions.get(where, "")
        adds = rule.allow != default_allow
        letters = set(had) | set(access) if adds else set(had) - set(access)
        exceptions[where] = "".join(letter for letter in "rwm" if letter in letters)
    return default_allow, {f"{where} {access}" for where, access in exceptions.items() if access}


def _number(number: int | None) -> str:
    return "*" if number is None or number < 0 else str(number)


def stats(cgroup: Cgroup) -> dict[str, dict[str, int]]:
    """Return nothing: it counts nothing."""
    return {}
