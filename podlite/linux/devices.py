"""Which device nodes the processes of a cgroup may make, read and write.

CAP_MKNOD is among the default capabilities, so a container can make a node for the root disk; that it cannot
open it is what these rules are for. They are an allow-list, enforced by the devices controller of cgroup v1, or
by a BPF program on a cgroup of the v2 tree, which works beside v1 controllers, too.

Sources: runc's AllowedDevices, which the OCI runtime specification (config-linux.md, "Default Devices") leaves to
the runtime; Documentation/admin-guide/cgroup-v1/devices.rst; bpf(2) and include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import NamedTuple

from podlite.linux.syscalls import bpf

WILDCARD = -1


class DeviceRule(NamedTuple):
    """`type` is c, b, or a for all devices; `access` has one or more of r, w and m (mknod)."""

    type: str
    major: int
    minor: int
    access: str


ALLOW_ALL = (DeviceRule("a", WILDCARD, WILDCARD, "rwm"),)
DEFAULT_RULES = (
    DeviceRule("c", 1, 3, "rwm"),  # null
    DeviceRule("c", 1, 5, "rwm"),  # zero
    DeviceRule("c", 1, 7, "rwm"),  # full
    DeviceRule("c", 1, 8, "rwm"),  # random
    DeviceRule("c", 1, 9, "rwm"),  # urandom
    DeviceRule("c", 5, 0, "rwm"),  # tty
    DeviceRule("c", 5, 2, "rwm"),  # ptmx
    DeviceRule("c", 136, WILDCARD, "rwm"),  # pts/*
    DeviceRule("c", 10, 200, "rwm"),  # net/tun
    # A node may be made for any device, as archives are unpacked; it just does not work.
    DeviceRule("c", WILDCARD, WILDCARD, "m"),
    DeviceRule("b", WILDCARD, WILDCARD, "m"),
)


def rule_for(path: str, access: str) -> DeviceRule:
    """The rule that gives `access` (of r, w, m) to the device at `path`.

    Raises OSError, ENODEV if there is something else than a device.
    """
    status = os.stat(path)
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        raise OSError(errno.ENODEV, "not a device", path)
    return DeviceRule(kind, os.major(status.st_rdev), os.minor(status.st_rdev), access)


def merged(rules: tuple[DeviceRule, ...]) -> tuple[DeviceRule, ...]:
    """One rule per device: an open for reading and writing must be allowed by a single one. Keeps the order. Pure."""
    access: dict[tuple[str, int, int], set[str]] = {}
    for rule in rules:
        if not rule.access or set(rule.access) - set("rwm") or rule.type not in ("a", "b", "c"):
            raise ValueError(f"{rule} is no device rule: the type is a, b or c, and access has r, w or m")
        access.setdefault((rule.type, rule.major, rule.minor), set()).update(rule.access)
    return tuple(
        DeviceRule(*device, "".join(each for each in "rwm" if each in allowed)) for device, allowed in access.items()
    )


# --- cgroup v1 --------------------------------------------------------------------------------


def v1_writes(rules: tuple[DeviceRule, ...]) -> list[tuple[str, str]]:
    """(file, content) to write in this order; a cgroup can never allow what its parent does not. Pure."""
    rules = merged(rules)
    if any(rule.type == "a" for rule in rules):
        return [("devices.allow", "a")]
    lines = [("devices.deny", "a")]
    for rule in rules:
        major, minor = ("*" if number == WILDCARD else str(number) for number in (rule.major, rule.minor))
        lines.append(("devices.allow", f"{rule.type} {major}:{minor} {rule.access}"))
    return lines


# --- BPF ----------------------------------------------------------------------------------------

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16  # enum bpf_cmd
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_TYPE_CGROUP_DEVICE = 6
# Programs of all ancestors must agree, and a container's own runtime may add more below.
_ALLOW_MULTI = 2
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_TYPE = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE32 = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_MOVE64_K = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_AND32_K = 0x54
_SHIFT_RIGHT32_K = 0x74
_IF_NOT_EQUAL_K = 0x55
_EXIT = 0x95
_ASKED_TYPE, _ASKED_ACCESS, _ASKED_MAJOR, _ASKED_MINOR = 2, 3, 4, 5  # registers


def _instruction(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | of << 4, offset, value)


def bpf_program(rules: tuple[DeviceRule, ...]) -> bytes:
    """A BPF_PROG_TYPE_CGROUP_DEVICE program that returns 1 for what a rule allows, else 0. Pure."""
    code = [
        # struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor
        _instruction(_LOAD_WORD, _ASKED_TYPE, 1, 0),
        _instruction(_MOVE32, _ASKED_ACCESS, _ASKED_TYPE),
        _instruction(_SHIFT_RIGHT32_K, _ASKED_ACCESS, value=16),
        _instruction(_AND32_K, _ASKED_TYPE, value=0xFFFF),
        _instruction(_LOAD_WORD, _ASKED_MAJOR, 1, 4),
        _instruction(_LOAD_WORD, _ASKED_MINOR, 1, 8),
    ]
    for rule in merged(rules):
        code.extend(_rule(rule))
    code += [_instruction(_MOVE64_K, 0, value=0), _instruction(_EXIT)]
    return b"".join(code)


def _rule(rule: DeviceRule) -> list[bytes]:
    denied = 7 & ~sum(_ACCESS[each] for each in rule.access)
    tests: list[tuple[list[bytes], int, int]] = []
    if rule.type != "a":
        tests.append(([], _ASKED_TYPE, _TYPE[rule.type]))
    if denied:
        asked_too_much = [_instruction(_MOVE32, 0, _ASKED_ACCESS), _instruction(_AND32_K, 0, value=denied)]
        tests.append((asked_too_much, 0, 0))
    if rule.major != WILDCARD:
        tests.append(([], _ASKED_MAJOR, rule.major))
    if rule.minor != WILDCARD:
        tests.append(([], _ASKED_MINOR, rule.minor))
    code = [_instruction(_EXIT), _instruction(_MOVE64_K, 0, value=1)]
    for prepare, register, wanted in reversed(tests):
        code.append(_instruction(_IF_NOT_EQUAL_K, register, offset=len(code), value=wanted))
        code.extend(reversed(prepare))
    return code[::-1]


def load_program(program: bytes) -> int:
    """An fd of the program, loaded into the kernel; it lives as long as an fd or a cgroup has it.

    Raises OSError: EPERM without CAP_BPF or CAP_SYS_ADMIN, EINVAL where the kernel has no such programs.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attr = struct.pack(
        "=IIQQIIQII16s",
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
        b"podlite_devices",
    )
    return bpf(_PROG_LOAD, ctypes.create_string_buffer(attr, len(attr)))


def attach_program(cgroup_fd: int, program_fd: int) -> None:
    """Makes the program decide for the cgroup (an fd of its directory in the v2 tree). Raises OSError."""
    attr = struct.pack("=IIIII", cgroup_fd, program_fd, _ATTACH_TYPE_CGROUP_DEVICE, _ALLOW_MULTI, 0)
    bpf(_PROG_ATTACH, ctypes.create_string_buffer(attr, len(attr)))


def replace_programs(cgroup_fd: int, program_fd: int | None) -> None:
    """Makes the program the only device program attached to this very cgroup; None detaches all. Idempotent.

    The new one is attached before the old ones go, so that nothing is ever allowed by neither. Raises OSError.
    """
    old = attached_programs(cgroup_fd)
    if program_fd is not None:
        # A new cgroup has none: nobody needs to know what the kernel calls this one.
        own = _program_id(program_fd) if old else -1
        if own in old:
            old.remove(own)
        else:
            attach_program(cgroup_fd, program_fd)
    for program_id in old:
        attr = struct.pack("=III", program_id, 0, 0)
        old_fd = bpf(_PROG_GET_FD_BY_ID, ctypes.create_string_buffer(attr, len(attr)))
        try:
            attr = struct.pack("=IIII", cgroup_fd, old_fd, _ATTACH_TYPE_CGROUP_DEVICE, 0)
            bpf(_PROG_DETACH, ctypes.create_string_buffer(attr, len(attr)))
        finally:
            os.close(old_fd)


def _program_id(program_fd: int) -> int:
    with open(f"/proc/self/fdinfo/{program_fd}", "rb") as file:
        for line in file:
            key, _, value = line.partition(b":")
            if key == b"prog_id":
                return int(value)
    raise OSError(errno.EBADF, "not a BPF program", f"fd {program_fd}")


def attached_programs(cgroup_fd: int) -> list[int]:
    """The ids of the device programs attached to this very cgroup, not to its ancestors. Raises OSError."""
    room = 64  # BPF_CGROUP_MAX_PROGS
    ids = (ctypes.c_uint32 * room)()
    attr = struct.pack("=IIIIQI4x", cgroup_fd, _ATTACH_TYPE_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), room)
    buffer = ctypes.create_string_buffer(attr, len(attr))
    bpf(_PROG_QUERY, buffer)
    count = struct.unpack("=IIIIQI4x", buffer.raw)[5]
    return list(ids[:count])
