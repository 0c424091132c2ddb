"""Flags about what a container may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sampan.cli.output import parse_size
from sampan.client.spec.request import DeviceRate, Limits, Rlimit
from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "add_updatable", "limits_of", "rlimits_of"]

_RATES: Final = ("read-bps", "write-bps", "read-iops", "write-iops")


def add_updatable(parser: argparse.ArgumentParser) -> None:
    """Add those that `update` can change while the container runs."""
    parser.add_argument("-m", "--memory", default="", metavar="BYTES", help="limit on memory")
    parser.add_argument("--memory-swap", default="", metavar="BYTES", help="memory and swap; or -1")
    parser.add_argument(
        "--memory-reservation",
        default="",
        metavar="BYTES",
        help="limit that holds when memory is short",
    )
    parser.add_argument("--cpus", default="", metavar="N", help="limit on CPU time, in CPUs")
    parser.add_argument(
        "-c", "--cpu-shares", type=int, default=0, metavar="N", help="weight among others"
    )
    parser.add_argument(
        "--cpu-period",
        type=int,
        default=0,
        metavar="USEC",
        help="period that --cpu-quota counts in",
    )
    parser.add_argument(
        "--cpu-quota", type=int, default=0, metavar="USEC", help="CPU time in each period"
    )
    parser.add_argument(
        "--cpu-rt-period",
        type=int,
        default=0,
        metavar="USEC",
        help="period of real-time scheduling",
    )
    parser.add_argument(
        "--cpu-rt-runtime",
        type=int,
        default=0,
        metavar="USEC",
        help="real-time CPU time in each period",
    )
    parser.add_argument("--cpuset-cpus", default="", metavar="0-3,5", help="CPUs it may run on")
    parser.add_argument("--cpuset-mems", default="", metavar="0,1", help="memory nodes it may use")
    parser.add_argument(
        "--pids-limit",
        type=int,
        default=0,
        metavar="N",
        help="most processes and threads; -1 is no limit",
    )
    parser.add_argument(
        "--blkio-weight", type=int, default=0, metavar="10-1000", help="weight of its block I/O"
    )


def add(parser: argparse.ArgumentParser) -> None:
    """Add all."""
    add_updatable(parser)
    parser.add_argument(
        "--memory-swappiness",
        type=int,
        default=None,
        metavar="0-100",
        help="how readily its pages are swapped",
    )
    parser.add_argument(
        "--oom-kill-disable", action="store_true", help="wait rather than die when memory is short"
    )
    for kind in _RATES:
        parser.add_argument(
            f"--device-{kind}",
            action="append",
            default=[],
            metavar="DEVICE:RATE",
            help="how much at most, of one device",
        )
    parser.add_argument(
        "--blkio-weight-device",
        action="append",
        default=[],
        metavar="DEVICE:N",
        help="weight on one device",
    )
    parser.add_argument(
        "--ulimit",
        action="append",
        default=[],
        metavar="NAME=SOFT[:HARD]",
        help="a limit of setrlimit(2); -1 is none",
    )


def limits_of(args: argparse.Namespace) -> Limits:
    """Return the cgroup's limits.

    Raises:
      InvalidArgument: one is malformed.
    """
    every = vars(args)
    rates = [
        _rate(kind, text)
        for kind in _RATES
        for text in every.get(f"device_{kind.replace('-', '_')}", ())
    ]
    rates += [_rate("weight", text) for text in every.get("blkio_weight_device", ())]
    return Limits(
        memory_bytes=_bytes(args.memory),
        memory_swap_bytes=-1 if args.memory_swap == "-1" else _bytes(args.memory_swap),
        memory_reservation_bytes=_bytes(args.memory_reservation),
        memory_swappiness=every.get("memory_swappiness"),
        oom_kill_disable=bool(every.get("oom_kill_disable")),
        cpus=_cpus(args.cpus),
        cpu_shares=args.cpu_shares,
        cpu_period_us=args.cpu_period,
        cpu_quota_us=args.cpu_quota,
        cpu_rt_period_us=args.cpu_rt_period,
        cpu_rt_runtime_us=args.cpu_rt_runtime,
        cpuset_cpus=args.cpuset_cpus,
        cpuset_mems=args.cpuset_mems,
        pids=args.pids_limit,
        blkio_weight=args.blkio_weight,
        device_rates=tuple(rates),
    )


def rlimits_of(args: argparse.Namespace) -> tuple[Rlimit, ...]:
    """Return what --ulimit asks for.

    Raises:
      InvalidArgument: one is malformed.
    """
    found = []
    for text in args.ulimit:
        name, equals, numbers = text.partition("=")
        soft, colon, hard = numbers.partition(":")
        values = [_number(part) for part in ((soft, hard) if colon else (soft, soft))]
        if not equals or None in values:
            raise InvalidArgument(f"ulimit {text!r} is not NAME=SOFT[:HARD], numbers or -1")
        found.append(Rlimit(name, *(value for value in values if value is not None)))
    return tuple(found)


def _number(text: str) -> int | None:
    if text in ("-1", "unlimited"):
        return -1
    return int(text) if text.isascii() and text.isdigit() else None


def _bytes(text: str) -> int:
    return parse_size(text) if text else 0


def _cpus(text: str) -> float:
    if not text:
        return 0
    plain = text.isascii() and text.replace(".", "", 1).isdigit()
    if not plain or not 0.01 <= float(text) <= 65536:
        raise InvalidArgument(f"--cpus {text!r} is no number from 0.01")
    return float(text)


def _rate(kind: str, text: str) -> DeviceRate:
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise InvalidArgument(f"device limit {text!r} is not /dev/NAME:RATE")
    if kind.endswith("bps"):
        return DeviceRate(kind, path, parse_size(rate))
    if not (rate.isascii() and rate.isdigit()):
        raise InvalidArgument(f"device limit {text!r}: {rate!r} is no number")
    return DeviceRate(kind, path, int(rate))
