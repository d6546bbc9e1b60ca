"""Installing a seccomp filter in the calling thread.

Standard library only, and as little of it as possible: the shim runs this.
"""

from __future__ import annotations

import ctypes

from podlite.linux.syscalls import SECCOMP_SET_MODE_FILTER, seccomp

_INSTRUCTION_BYTES = 8  # struct sock_filter: u16 code, u8 jt, u8 jf, u32 k


class _sock_fprog(ctypes.Structure):  # noqa: N801 - the kernel's own name
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load_filter(program: bytes, flags: int = 0) -> None:
    """seccomp(SECCOMP_SET_MODE_FILTER): from here on the thread and its children are confined by `program`.

    The thread must have no_new_privs set, or CAP_SYS_ADMIN in its user namespace. Filters add up and cannot
    be taken back. Raises OSError: EACCES without either, EINVAL for a program that the kernel refuses.
    """
    prog = _sock_fprog(len(program) // _INSTRUCTION_BYTES, program)
    seccomp(SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(prog))
