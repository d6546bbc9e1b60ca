"""The seccomp profile RuntimeDefault: what docker, containerd and CRI-O allow a container that asks for nothing.

An allow-list: what is not in it fails with EPERM, or with ENOSYS if it is newer than the list. It shuts out what
few programs need and many exploits did: kernel keyrings, new namespaces, mounts, io_uring, userfaultfd, bpf,
kexec, modules, clocks and swap.

Source: the facts of containerd contrib/seccomp and moby/profiles seccomp, which agree but for the lsm_* calls.
"""

from __future__ import annotations

from podlite.linux.seccomp_profile import ALLOW, ENOSYS, EPERM, ERRNO, Condition, Profile, Rule

_ALWAYS = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr
lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack membarrier
memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""
_ON_ARCHITECTURE = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
}
_ARCHITECTURES = {"x86_64": ("x86_64", "x86", "x32"), "aarch64": ("aarch64", "arm")}
# Allowed to whom the bounding set leaves the capability that the kernel asks for anyway.
_WITH_CAPABILITY = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """,
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
}
# The capabilities on which the profile depends.
CAPABILITIES = frozenset(_WITH_CAPABILITY)

# Until then a tracer could change a call after the filter had seen it (seccomp(2)).
_SAFE_TO_TRACE = (4, 8)
# CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID and -NET of clone(2)'s flags.
_NEW_NAMESPACES = 0x7E020000
# PER_LINUX and PER_LINUX32, each with and without UNAME26; 0xFFFFFFFF only asks (personality(2)).
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_ALG, _AF_VSOCK = 38, 40


def default_profile(machine: str, capabilities: frozenset[str], kernel: tuple[int, int]) -> Profile:
    """The profile for a bounding set of `capabilities` (names as in CAPABILITIES). Pure."""
    names = [*_ALWAYS.split(), *_ON_ARCHITECTURE.get(machine, "").split()]
    if kernel >= _SAFE_TO_TRACE:
        names += ["process_vm_readv", "process_vm_writev", "ptrace"]
    for capability in sorted(CAPABILITIES & capabilities):
        names += _WITH_CAPABILITY[capability].split()
    rules = [
        Rule(tuple(names), ALLOW),
        # The kernel takes the family as an int: of the upper word it sees nothing, so it must not decide either.
        *_any_of("socket", ("<", _AF_ALG), ("==", _AF_ALG + 1), (">", _AF_VSOCK)),
        *_any_of("personality", *(("==", value) for value in _PERSONALITIES)),
    ]
    if "SYS_ADMIN" not in capabilities:
        rules += [
            Rule(("clone",), ALLOW, (Condition(0, "&==", 0, _NEW_NAMESPACES),)),
            # Its flags are in memory, where a filter cannot look. ENOSYS makes a C library fall back to clone.
            Rule(("clone3",), ERRNO | ENOSYS),
        ]
    return Profile(ERRNO | EPERM, tuple(rules), _ARCHITECTURES.get(machine, (machine,)))


def _any_of(name: str, *comparisons: tuple[str, int]) -> list[Rule]:
    return [Rule((name,), ALLOW, (Condition(0, operator, value, 0, True),)) for operator, value in comparisons]
