from __future__ import annotations

import os
import re

import pytest
from classic_bpf import libseccomp

from podlite.linux.seccomp_tables import ARCHITECTURES, IPC, SOCKETCALL, numbers

_HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "x32": "/usr/include/x86_64-linux-gnu/asm/unistd_x32.h",
    "x86": "/usr/include/x86_64-linux-gnu/asm/unistd_32.h",
}


@pytest.mark.parametrize("architecture", _HEADERS)
def test_numbers_are_those_of_the_kernel_headers(architecture: str) -> None:
    path = _HEADERS[architecture]
    if not os.path.exists(path):
        pytest.skip(f"{path} is not installed (linux-libc-dev)")
    with open(path) as file:
        text = file.read()
    pattern = r"#define __NR_(\w+) \(?(?:__X32_SYSCALL_BIT \+ )?(\d+)\)?"
    defined = {name: int(number) for name, number in re.findall(pattern, text)}
    assert len(defined) > 300
    table = numbers(architecture)
    assert {name: table.get(name) for name in defined} == defined


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_numbers_are_those_of_libseccomp(architecture: str) -> None:
    library = libseccomp()
    if library is None:
        pytest.skip("libseccomp.so.2 is not installed")
    compared = 0
    for name, number in numbers(architecture).items():
        theirs = library.number(architecture, name)
        if theirs < 0:
            # Newer than the library, or one of the names that it keeps for socketcall and ipc.
            continue
        assert theirs & ~0x40000000 == number, name
        compared += 1
    assert compared > 250


def test_newer_calls_have_one_number_everywhere() -> None:
    # Since Linux 5.1 all architectures number new calls alike (Documentation/process/adding-syscalls.rst).
    assert {numbers(each)["clone3"] for each in ARCHITECTURES} == {435}
    assert {numbers(each)["removexattrat"] for each in ARCHITECTURES} == {466}


def test_no_number_has_two_names() -> None:
    for architecture in ARCHITECTURES:
        table = numbers(architecture)
        assert len(set(table.values())) == len(table), architecture


def test_multiplexers() -> None:
    # include/uapi/linux/net.h and ipc.h
    assert (SOCKETCALL["socket"], SOCKETCALL["accept4"], SOCKETCALL["sendmmsg"]) == (1, 18, 20)
    assert (IPC["semop"], IPC["msgsnd"], IPC["shmctl"]) == (1, 11, 24)
