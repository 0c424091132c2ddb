"""Devices of v2: there are no files, but a BPF program that the kernel asks at each access.

A cgroup may have several programs, and all must agree. A new one is therefore attached in place of
ours in one step (BPF_F_REPLACE): at no moment does none, or a stricter pair, apply.
"""

from __future__ import annotations

import os

from sampan.cgroups.files import Cgroup, translate
from sampan.cgroups.v1.devices import boil_down
from sampan.linux import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.resources import Resources

__all__ = ["apply"]


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Attach a program that decides as the rules say, in place of what was attached before."""
    if not resources.devices:
        return
    default_allow, exceptions = boil_down(resources.devices)
    program = bpf.device_program(default_allow, sorted(exceptions))
    try:
        folder = os.open(cgroup.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _attach(folder, program)
        finally:
            os.close(folder)
    except OSError as error:
        raise translate(error, f"attach device program to {cgroup.path}") from error


def _attach(folder: int, program: bytes) -> None:
    loaded = bpf.prog_load(program)
    try:
        former = bpf.attached_ids(folder)
        if not former:
            bpf.attach(folder, loaded)
            return
        first = bpf.prog_by_id(former[0])
        try:
            bpf.attach(folder, loaded, replace=first)
        finally:
            os.close(first)
        for number in former[1:]:
            other = bpf.prog_by_id(number)
            try:
                bpf.detach(folder, other)
            finally:
                os.close(other)
    finally:
        os.close(loaded)
