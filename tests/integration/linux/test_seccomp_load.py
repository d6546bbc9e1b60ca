"""Filters on real processes. The errno tells who answered: EPERM and ENOSYS are the filter's, others the kernel's."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from linux_children import Died, in_child, syscall

from podlite.linux import capabilities, seccomp
from podlite.linux.seccomp_bpf import compile_profile
from podlite.linux.seccomp_load import load_filter
from podlite.linux.seccomp_profile import ALLOW, ERRNO, KILL_PROCESS, Profile, Rule
from podlite.linux.seccomp_tables import numbers
from podlite.linux.syscalls import PR_SET_NO_NEW_PRIVS, capset, prctl

MACHINE = os.uname().machine
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it the kernel answers EPERM, too"),
    pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="there is no table of system calls"),
]

NR = numbers(MACHINE) if MACHINE in ("x86_64", "aarch64") else {}
CLONE_NEWUSER = 0x10000000
SIGCHLD = 17
BAD = 0xFFFFFFFFFFFFFFFF


def confined(action: Callable[[], Any], bounding: int = capabilities.DEFAULT) -> Any:
    """In a child with no_new_privs and the default filter, but all capabilities that this process has."""

    def run() -> Any:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load_filter(seccomp.default_filter(bounding).program)
        return action()

    return in_child(run)


def calls(*those: tuple[str, tuple[int, ...]], bounding: int = capabilities.DEFAULT) -> dict[str, int]:
    return dict(confined(lambda: [(name, syscall(NR[name], *each)) for name, each in those], bounding))


def test_what_an_ordinary_container_may_not() -> None:
    answers = calls(
        ("mount", (0, 0, 0, 0, 0)),
        ("umount2", (0, 0)),
        ("pivot_root", (0, 0)),
        ("unshare", (0,)),
        ("setns", (BAD, 0)),
        ("keyctl", (0, 0)),
        ("add_key", ()),
        ("bpf", (BAD,)),
        ("perf_event_open", ()),
        ("open_by_handle_at", (BAD,)),
        ("init_module", ()),
        ("kexec_load", (0, 0, 0, BAD)),
        ("swapon", ()),
        ("settimeofday", (1, 1)),
        ("userfaultfd", (BAD,)),
        ("io_uring_setup", ()),
        ("fsopen", ()),
        ("mount_setattr", ()),
        ("clone", (CLONE_NEWUSER | SIGCHLD,)),
        ("personality", (0x0040000,)),
        ("acct", (1,)),
        ("quotactl", (BAD,)),
        ("reboot", (0,)),
    )
    assert {name: -result for name, result in answers.items()} == dict.fromkeys(answers, errno.EPERM)


def test_what_it_may() -> None:
    def use_it() -> list[str]:
        output = subprocess.run(["/bin/sh", "-c", "echo $((6 * 7))"], capture_output=True, check=True).stdout
        thread_ran: list[str] = []
        thread = threading.Thread(target=lambda: thread_ran.append("thread"))
        thread.start()
        thread.join()
        with socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET):
            pass
        return [output.decode().strip(), *thread_ran]

    assert confined(use_it) == ["42", "thread"]
    # The kernel itself answers these, whatever it says.
    answers = calls(("ptrace", (BAD,)), ("personality", (0xFFFFFFFF,)), ("chroot", (0,)), ("mknodat", (BAD, 1, 0, 0)))
    assert answers["ptrace"] in (-errno.ESRCH, -errno.EIO)
    assert answers["personality"] >= 0
    assert answers["chroot"] == -errno.EFAULT
    assert answers["mknodat"] == -errno.EFAULT


def test_what_the_filter_does_not_know_is_absent() -> None:
    assert calls(("clone3", (0, 0))) == {"clone3": -errno.ENOSYS}
    # Beyond all tables, and what came after the profile.
    assert confined(lambda: [syscall(number) for number in (NR["open_tree_attr"], 600, 100_000)]) == [-errno.ENOSYS] * 3


@pytest.mark.parametrize("family", [38, 40, 1 << 32 | 38, 1 << 32 | 40])
def test_forbidden_sockets(family: int) -> None:
    """AF_ALG and AF_VSOCK, also with a bit set that the kernel does not look at."""
    assert calls(("socket", (family, 1, 0))) == {"socket": -errno.EPERM}


def test_an_allowed_family_with_upper_bits_reaches_the_kernel() -> None:
    # socket(2) takes an int, so this is AF_UNIX, and the filter sees it the same way.
    assert calls(("socket", (1 << 32 | 1, 1, 0)))["socket"] >= 0


@pytest.mark.parametrize(
    ("capability", "name", "arguments", "answer"),
    [
        ("SYS_ADMIN", "mount", (BAD, BAD, BAD, 0, 0), -errno.EFAULT),
        ("SYS_ADMIN", "unshare", (0,), 0),
        ("SYS_ADMIN", "setns", (BAD, 0), -errno.EBADF),
        ("SYS_ADMIN", "clone3", (0, 0), -errno.EINVAL),
        ("SYS_ADMIN", "fsopen", (0, BAD), -errno.EINVAL),
        ("BPF", "bpf", (BAD, 0, 0), -errno.EINVAL),
        ("SYS_PTRACE", "kcmp", (BAD, BAD), -errno.ESRCH),
        ("SYS_PTRACE", "pidfd_getfd", (BAD, BAD, 0), -errno.EBADF),
        ("SYS_NICE", "mbind", (1, 0, 0, 0, 0, 0), -errno.EINVAL),
        ("DAC_READ_SEARCH", "open_by_handle_at", (BAD, 0, 0), -errno.EFAULT),
    ],
)
def test_capabilities_open_their_calls(capability: str, name: str, arguments: tuple[int, ...], answer: int) -> None:
    assert calls((name, arguments), bounding=0)[name] in (-errno.EPERM, -errno.ENOSYS)
    assert calls((name, arguments), bounding=capabilities.bit(capability)) == {name: answer}


def test_a_filter_needs_no_new_privs_or_privilege() -> None:
    def load() -> None:
        capset(0, 0, 0)
        load_filter(seccomp.default_filter(0).program)

    with pytest.raises(PermissionError):
        in_child(load)


def test_a_program_that_the_kernel_refuses() -> None:
    def load(program: bytes) -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load_filter(program)

    for program in (b"", b"\0" * 8, b"\x06\0\0\0"):
        with pytest.raises(OSError, match="Invalid argument"):
            in_child(partial(load, program))


def test_killing_actions() -> None:
    profile = Profile(ALLOW, (Rule(("getppid",), KILL_PROCESS),), (MACHINE,))

    def provoke() -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load_filter(compile_profile(profile))
        os.getppid()

    with pytest.raises(Died) as caught:
        in_child(provoke)
    assert caught.value.signal == signal.SIGSYS


def test_a_localhost_profile_on_a_real_process(tmp_path: Any) -> None:
    path = tmp_path / "profile.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ['
        '{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}'
    )
    compiled = seccomp.file_filter(str(path), capabilities.DEFAULT, str(tmp_path / "cache"))

    def make_directory() -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load_filter(compiled.program, compiled.flags)
        os.mkdir(tmp_path / "made")

    with pytest.raises(OSError, match="No space left") as caught:
        in_child(make_directory)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "made").exists()


def _int80(number: int, first: int = 0) -> int:
    """A 32-bit system call from this 64-bit process."""
    # mov eax, edi; mov ebx, esi; push rbx around it, as the ABI wants rbx back
    code = b"\x53\x89\xf8\x89\xf3\xcd\x80\x5b\xc3"
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return int(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)(number, first))


@pytest.mark.skipif(MACHINE != "x86_64", reason="x86 only")
def test_32_bit_calls_have_their_own_numbers() -> None:
    table = numbers("x86")
    try:
        assert in_child(lambda: _int80(table["getpid"])) > 0
    except Died:
        pytest.skip("this kernel runs no 32-bit programs")
    native_only = Profile(ALLOW, (Rule(("mount",), ERRNO | 1),), ("x86_64",))

    def foreign() -> int:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load_filter(compile_profile(native_only))
        return _int80(table["getpid"])

    with pytest.raises(Died):
        in_child(foreign)
    assert confined(lambda: _int80(table["getpid"])) > 0
    assert confined(lambda: _int80(table["mount"])) == -errno.EPERM
    assert confined(lambda: _int80(table["clone3"])) == -errno.ENOSYS
    # Number 21 is mount in 32-bit programs and access in 64-bit ones: not confused.
    assert table["mount"] == NR["access"] == 21


def test_a_whole_interpreter_runs_confined() -> None:
    program = "import asyncio, subprocess; asyncio.run(asyncio.sleep(0)); print(subprocess.check_output(['id', '-u']))"
    assert confined(lambda: subprocess.check_output([sys.executable, "-c", program], text=True)).startswith("b'")
