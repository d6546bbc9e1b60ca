"""The default profile's outcomes. Expected ones are from docker's documentation, "Seccomp security profiles for
Docker" (the table of significant calls blocked by the default profile) and containerd's contrib/seccomp."""

from __future__ import annotations

import pytest
from classic_bpf import run

from podlite.linux import capabilities
from podlite.linux.seccomp_bpf import TOKENS, X32_BIT, compile_profile
from podlite.linux.seccomp_default import CAPABILITIES, default_profile
from podlite.linux.seccomp_profile import ALLOW, ENOSYS, ERRNO
from podlite.linux.seccomp_tables import numbers

DENIED, ABSENT = ERRNO | 1, ERRNO | ENOSYS
MODERN = (6, 18)
USUAL = frozenset(capabilities.names(capabilities.DEFAULT))


def verdict(
    name: str,
    *arguments: int,
    has: frozenset[str] = USUAL,
    machine: str = "x86_64",
    architecture: str = "",
    kernel: tuple[int, int] = MODERN,
) -> int:
    program = compile_profile(default_profile(machine, has, kernel))
    architecture = architecture or machine
    number = numbers(architecture)[name] | (X32_BIT if architecture == "x32" else 0)
    return run(program, TOKENS["x86_64" if architecture == "x32" else architecture], number, arguments)


BLOCKED = """
    acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module get_kernel_syms get_mempolicy
    init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount move_pages nfsservctl
    open_by_handle_at perf_event_open pivot_root process_madvise quotactl query_module reboot request_key
    set_mempolicy setns settimeofday swapoff swapon sysfs _sysctl umount2 unshare uselib userfaultfd ustat vhangup
    io_uring_setup io_uring_enter io_uring_register fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr
    sethostname setdomainname syslog fanotify_init pidfd_getfd
""".split()  # noqa: SIM905
# In docker's table because of what it guards, but allowed: it only reads without CAP_SYS_TIME.
BLOCKED.remove("clock_adjtime")


@pytest.mark.parametrize("name", BLOCKED)
def test_blocked_for_ordinary_containers(name: str) -> None:
    assert verdict(name) == DENIED


@pytest.mark.parametrize(
    "name",
    """
    read write openat execve fork vfork mmap futex clone3_is_not_here rt_sigreturn exit_group chroot mknod prctl
    seccomp landlock_create_ruleset statx epoll_pwait2 pidfd_open memfd_create inotify_init1 setuid setgroups mlock
    process_vm_readv ptrace arch_prctl modify_ldt cachestat fchmodat2 futex_wait statmount removexattrat mseal
    clock_adjtime adjtimex name_to_handle_at
    """.replace("clone3_is_not_here", "").split(),
)
def test_allowed_for_ordinary_containers(name: str) -> None:
    assert verdict(name) == ALLOW


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("SYS_ADMIN", "mount"),
        ("SYS_ADMIN", "setns"),
        ("SYS_ADMIN", "unshare"),
        ("SYS_ADMIN", "clone3"),
        ("SYS_ADMIN", "fsopen"),
        ("SYS_ADMIN", "bpf"),
        ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"),
        ("SYSLOG", "syslog"),
        ("DAC_READ_SEARCH", "open_by_handle_at"),
        ("SYS_BOOT", "reboot"),
        ("SYS_CHROOT", "chroot"),
        ("SYS_MODULE", "finit_module"),
        ("SYS_PACCT", "acct"),
        ("SYS_PTRACE", "kcmp"),
        ("SYS_PTRACE", "pidfd_getfd"),
        ("SYS_RAWIO", "iopl"),
        ("SYS_TIME", "clock_settime"),
        ("SYS_TTY_CONFIG", "vhangup"),
        ("SYS_NICE", "mbind"),
    ],
)
def test_allowed_with_a_capability(capability: str, name: str) -> None:
    assert verdict(name, has=frozenset()) in (DENIED, ABSENT)
    assert verdict(name, has=frozenset((capability,))) == ALLOW


def test_capabilities_are_known_ones() -> None:
    assert set(capabilities.NAMES) >= CAPABILITIES


@pytest.mark.parametrize("name", ["keyctl", "io_uring_setup", "kexec_load", "userfaultfd", "swapon", "pivot_root"])
def test_blocked_whatever_the_capabilities(name: str) -> None:
    assert verdict(name, has=frozenset(capabilities.NAMES)) == DENIED


def test_clone_without_new_namespaces() -> None:
    thread = 0x3D0F00  # what pthread_create asks for
    assert verdict("clone", thread) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict("clone", flag) == DENIED
        assert verdict("clone", flag, has=USUAL | {"SYS_ADMIN"}) == ALLOW


def test_clone3_is_absent() -> None:
    # moby/moby#42681: its flags cannot be seen by a filter, and ENOSYS makes the C library use clone.
    assert verdict("clone3") == ABSENT


def test_tracing_needs_a_kernel_that_traces_before_it_filters() -> None:
    assert verdict("ptrace", kernel=(4, 7)) == DENIED
    assert verdict("ptrace", kernel=(4, 8)) == ALLOW
    assert verdict("ptrace", kernel=(4, 7), has=frozenset(("SYS_PTRACE",))) == ALLOW


@pytest.mark.parametrize("family", [1, 2, 10, 16, 17, 39, 41, 44])
def test_allowed_address_families(family: int) -> None:
    assert verdict("socket", family, 1, 0) == ALLOW


@pytest.mark.parametrize("family", [38, 40, 1 << 32 | 38, 1 << 32 | 40, 0xFFFFFFFF00000000 | 40])
def test_forbidden_address_families(family: int) -> None:
    """AF_ALG and AF_VSOCK, also with bits set that the kernel does not look at: socket(2) takes an int."""
    assert verdict("socket", family, 1, 0) == DENIED


def test_personalities() -> None:
    for allowed in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict("personality", allowed) == ALLOW
    assert verdict("personality", 0x0040000) == DENIED  # ADDR_NO_RANDOMIZE


def test_other_architectures_of_the_machine() -> None:
    assert verdict("socketcall", 1, architecture="x86") == ALLOW
    assert verdict("mount", architecture="x86") == DENIED
    assert verdict("clock_gettime64", architecture="x86") == ALLOW
    assert verdict("write", architecture="x32") == ALLOW
    assert verdict("mount", architecture="x32") == DENIED


def test_aarch64() -> None:
    assert verdict("openat", machine="aarch64") == ALLOW
    assert verdict("keyctl", machine="aarch64") == DENIED
    assert verdict("clone", 0x10000000, machine="aarch64") == DENIED
    assert verdict("clone3", machine="aarch64") == ABSENT
    assert verdict("set_tls", machine="aarch64", architecture="arm") == ALLOW


def test_what_came_after_the_profile_is_absent() -> None:
    assert verdict("open_tree_attr") == ABSENT
    assert verdict("listns") == ABSENT
