"""From `linux.seccomp` to the BPF that a child loads: libseccomp by ctypes, at prepare time only.

Compiling docker's default profile takes tens of milliseconds, so a compiled filter is kept, in
memory and below the runtime's root, under the hash of everything that decides it:

    <root>/.seccomp/<hash of profile, machine, libseccomp's version and our own format>

A run that finds it there never loads libseccomp. The folder is 0700 and belongs to the runtime;
what is in it is trusted as the runtime's own state.

A profile says nothing of system calls that are younger than itself. Where its default is an error,
those get ENOSYS, so that programs fall back as on an older kernel: before libseccomp's filter
stands a check of the number against the greatest one that the profile knows.

Source: config-linux.md#seccomp; seccomp(2); libseccomp 2.5 seccomp_rule_add_array(3).
"""

from __future__ import annotations

import _blake2
import errno
import os
import struct

from sampan.errors import InvalidArgument, Unimplemented
from sampan.model.runtime.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.model.runtime.seccomp import Seccomp, Syscall

__all__ = ["ACTIONS", "ARCHITECTURES", "FLAGS", "OPERATORS", "Filter", "compile_filter"]

_FORMAT = "1"

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
# libseccomp's token is the audit architecture. Source: linux/audit.h, seccomp.h.
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_MIPS": 0x00000008,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0x1,
    "SECCOMP_FILTER_FLAG_LOG": 0x2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 0x4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0x20,
}
_NEW_LISTENER = 0x8
_X86_64, _X32 = 0xC000003E, 0x4000003E
_NATIVE = {"x86_64": _X86_64, "aarch64": 0xC00000B7}
_ERRNO, _TRACE = ACTIONS["SCMP_ACT_ERRNO"], ACTIONS["SCMP_ACT_TRACE"]

_memory: dict[str, bytes] = {}


class Filter:
    """A filter ready for seccomp(2): `bpf` is an array of struct sock_filter."""

    __slots__ = ("bpf", "flags", "listener_metadata", "listener_path")

    def __init__(self, bpf: bytes, flags: int, listener_path: str, listener_metadata: str) -> None:
        self.bpf = bpf
        self.flags = flags
        self.listener_path = listener_path
        """Socket of the agent that gets the notification fd; empty without one."""
        self.listener_metadata = listener_metadata


def compile_filter(profile: Seccomp, root: str) -> Filter | None:
    """Return the filter of a profile, compiled now or taken from the cache below `root`.

    None means that the profile allows everything.

    Raises:
      InvalidArgument: an action, operator, architecture or flag is unknown.
      Unimplemented: libseccomp is not installed.
    """
    flags = _flags(profile)
    notifies = _check(profile)
    if profile.default_action == "SCMP_ACT_ALLOW" and not profile.syscalls:
        return None
    if notifies:
        if not profile.listener_path:
            raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY needs a listenerPath")
        flags |= _NEW_LISTENER
    return Filter(_bpf(profile, root), flags, profile.listener_path, profile.listener_metadata)


def _flags(profile: Seccomp) -> int:
    if not profile.flags:
        return FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    flags = 0
    for name in profile.flags:
        if name not in FLAGS:
            raise InvalidArgument(f"seccomp: unknown flag {name!r}")
        # All our children have one thread, where TSYNC changes nothing but excludes a listener.
        flags |= FLAGS[name] & ~FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]
    return flags


def _check(profile: Seccomp) -> bool:
    """Return whether the profile notifies; refuse what would hang the birth itself."""
    if profile.default_action == "SCMP_ACT_NOTIFY":
        raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY cannot be the default action")
    notifies = False
    for syscall in profile.syscalls:
        if syscall.action == "SCMP_ACT_NOTIFY":
            notifies = True
            if "write" in syscall.names:
                raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY cannot be used for write")
    return notifies


def _bpf(profile: Seccomp, root: str) -> bytes:
    document = profile.replace(listener_path="", listener_metadata="", flags=()).to_json()
    text = dumps([_FORMAT, os.uname().machine, document]).encode()
    key = _blake2.blake2b(text, digest_size=20).hexdigest()
    found = _memory.get(key)
    if found is not None:
        return found
    path = f"{root}/.seccomp/{key}"
    try:
        with open(path, "rb") as file:
            program = file.read()
    except FileNotFoundError:
        program = b""
    if not program or len(program) % 8:
        program = _compile(profile)
        _keep(path, program)
    _memory[key] = program
    return program


def _keep(path: str, program: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(program)
    os.rename(temporary, path)


def _action(name: str, errno_ret: int | None) -> int:
    if name not in ACTIONS:
        raise InvalidArgument(f"seccomp: unknown action {name!r}")
    action = ACTIONS[name]
    if action in (_ERRNO, _TRACE):
        return action | ((errno.EPERM if errno_ret is None else errno_ret) & 0xFFFF)
    if errno_ret is not None:
        raise InvalidArgument(f"seccomp: errnoRet does not go with {name}")
    return action


def _compile(profile: Seccomp) -> bytes:
    library = _library()
    default = _action(profile.default_action, profile.default_errno_ret)
    context = library.seccomp_init(default)
    if not context:
        raise InvalidArgument(f"seccomp: libseccomp refuses {profile.default_action}")
    try:
        for name in profile.architectures:
            if name not in ARCHITECTURES:
                raise InvalidArgument(f"seccomp: unknown architecture {name!r}")
            result = library.seccomp_arch_add(context, ARCHITECTURES[name])
            if result not in (0, -errno.EEXIST):
                raise _failed("seccomp_arch_add", result, name)
        library.seccomp_attr_set(context, 8, 2)  # CTL_OPTIMIZE: a binary tree of numbers
        for syscall in profile.syscalls:
            action = _action(syscall.action, syscall.errno_ret)
            if action != default:
                _add_rules(library, context, action, syscall)
        descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = library.seccomp_export_bpf(context, descriptor)
            if result < 0:
                raise _failed("seccomp_export_bpf", result, "profile")
            size = os.lseek(descriptor, 0, os.SEEK_END)
            program = os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)
    finally:
        library.seccomp_release(context)
    return _enosys_stub(library, profile) + program


def _add_rules(library: Any, context: Any, action: int, syscall: Syscall) -> None:
    comparisons = [_comparison(arg) for arg in syscall.args]
    indices = [arg.index for arg in syscall.args]
    # libseccomp takes one comparison for each argument; several of one argument mean "or" in runc,
    # so they become rules of their own.
    if len(set(indices)) != len(indices):
        groups = [[each] for each in comparisons]
    else:
        groups = [comparisons]
    for name in syscall.names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            continue  # unknown to this libseccomp: it falls under the default, or ENOSYS
        for group in groups:
            packed = b"".join(group)
            result = library.seccomp_rule_add_array(context, action, number, len(group), packed)
            if result not in (0, -errno.EEXIST, -errno.EDOM):
                raise _failed("seccomp_rule_add", result, name)


def _comparison(arg: Any) -> bytes:
    if arg.op not in OPERATORS:
        raise InvalidArgument(f"seccomp: unknown operator {arg.op!r}")
    if arg.index > 5:
        raise InvalidArgument(f"seccomp: a system call has no argument {arg.index}")
    mask = (1 << 64) - 1
    return struct.pack(
        "=IIQQ", arg.index, OPERATORS[arg.op], arg.value & mask, arg.value_two & mask
    )


def _enosys_stub(library: Any, profile: Seccomp) -> bytes:
    """Return instructions that answer ENOSYS to numbers above all that the profile names."""
    if profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"):
        return b""
    if profile.default_errno_ret == errno.ENOSYS and profile.default_action == "SCMP_ACT_ERRNO":
        return b""
    tokens = {ARCHITECTURES[name] for name in profile.architectures}
    native = _NATIVE.get(os.uname().machine)
    if native is not None:
        tokens.add(native)
    tokens.discard(_X32)  # shares its audit word with x86_64 and is told apart by bit 30
    checks = b""
    for token in sorted(tokens):
        last = _last_number(library, profile, token)
        if last < 0:
            continue
        checks += _stub_for(token, last)
    if not checks:
        return b""
    return checks + _instruction(0x20, 0, 0, 0)  # leaves the accumulator as a filter finds it


def _last_number(library: Any, profile: Seccomp, token: int) -> int:
    last = -1
    for syscall in profile.syscalls:
        for name in syscall.names:
            number = library.seccomp_syscall_resolve_name_arch(token, name.encode())
            last = max(last, number)
    return int(last)


def _stub_for(token: int, last: int) -> bytes:
    # BPF_LD|W|ABS=0x20, JEQ|K=0x15, JGT|K=0x25, JGE|K=0x35, RET|K=0x06. Offsets: nr 0, arch 4.
    enosys = _instruction(0x06, 0, 0, _ERRNO | errno.ENOSYS)
    return b"".join(
        (
            _instruction(0x20, 0, 0, 4),
            _instruction(0x15, 0, 4, token),
            _instruction(0x20, 0, 0, 0),
            _instruction(0x35, 2, 0, 0x40000000),  # x32, or -1 of a tracer: libseccomp's affair
            _instruction(0x25, 0, 1, last),
            enosys,
        )
    )


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _failed(call: str, result: int, what: str) -> InvalidArgument:
    return InvalidArgument(f"seccomp: {call} of {what}: {os.strerror(-result)}")


def _library() -> Any:
    import ctypes

    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as err:
        raise Unimplemented(
            "config.json has a seccomp profile, but libseccomp.so.2 is missing"
        ) from err
    word, pointer, text = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_char_p
    library.seccomp_init.restype = pointer
    library.seccomp_init.argtypes = [word]
    library.seccomp_release.argtypes = [pointer]
    library.seccomp_arch_add.argtypes = [pointer, word]
    library.seccomp_attr_set.argtypes = [pointer, ctypes.c_int, word]
    library.seccomp_syscall_resolve_name.argtypes = [text]
    library.seccomp_syscall_resolve_name_arch.argtypes = [word, text]
    library.seccomp_rule_add_array.argtypes = [pointer, word, ctypes.c_int, ctypes.c_uint, text]
    library.seccomp_export_bpf.argtypes = [pointer, ctypes.c_int]
    return library
