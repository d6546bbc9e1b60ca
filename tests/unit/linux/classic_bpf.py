"""A machine for classic BPF programs on struct seccomp_data, as seccomp(2) runs them."""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
from typing import Any


def run(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """The program's verdict (SECCOMP_RET_...) on a system call."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    accumulator = 0
    position = 0
    while True:
        code, if_true, if_false, k = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        if code == 0x20:  # ld [k]
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x54:  # and #k
            accumulator &= k
        elif code == 0x05:  # ja
            position += k
        elif code in (0x15, 0x25, 0x35, 0x45):
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k != 0}
            position += if_true if holds[code] else if_false
        elif code == 0x06:  # ret #k
            return int(k)
        else:
            raise AssertionError(f"instruction {code:#x} is not one that is expected here")


class Libseccomp:
    """The few functions of the C library that a comparison needs."""

    OPERATORS = {"!=": 1, "<": 2, "<=": 3, "==": 4, ">=": 5, ">": 6, "&==": 7}

    class Comparison(ctypes.Structure):
        _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

    def __init__(self) -> None:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_release.argtypes = [ctypes.c_void_p]
        library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
        library.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_void_p,
        ]
        library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self.library = library

    def number(self, architecture: str, name: str) -> int:
        """Negative for a call that the architecture lacks or the library does not know."""
        token = self.library.seccomp_arch_resolve_name(architecture.encode())
        return int(self.library.seccomp_syscall_resolve_name_arch(token, name.encode()))

    def compile(self, profile: Any) -> bytes:
        """The same profile as the library compiles it, for the machine that this is."""
        import os

        context = self.library.seccomp_init(profile.default_action)
        try:
            for architecture in profile.architectures[1:]:
                token = self.library.seccomp_arch_resolve_name(architecture.encode())
                assert self.library.seccomp_arch_add(context, token) == 0
            for rule in profile.rules:
                comparisons = [
                    self.Comparison(each.argument, self.OPERATORS[each.operator], *values)
                    for each in rule.conditions
                    for values in [(each.mask, each.value) if each.operator == "&==" else (each.value, 0)]
                ]
                array = (self.Comparison * max(1, len(comparisons)))(*comparisons)
                for name in rule.names:
                    number = self.library.seccomp_syscall_resolve_name(name.encode())
                    if number == -1 or rule.action == profile.default_action:
                        continue
                    answer = self.library.seccomp_rule_add_array(context, rule.action, number, len(comparisons), array)
                    assert answer == 0, (name, answer)
            fd = os.memfd_create("filter")
            try:
                assert self.library.seccomp_export_bpf(context, fd) == 0
                return os.pread(fd, 1 << 20, 0)
            finally:
                os.close(fd)
        finally:
            self.library.seccomp_release(context)


def libseccomp() -> Libseccomp | None:
    try:
        return Libseccomp()
    except OSError:
        return None
