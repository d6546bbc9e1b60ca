"""System calls that Python's standard library lacks, flat, under the kernel's own names.

Prototypes are set once, at import: setting them at call time would race between threads. Every
function raises `OSError` with the errno, the call's name and the path or object it was about, and
releases the GIL while it is in the kernel, but for one that never waits there.

Only the standard library is used, and nothing of podlite: the shim runs this without site-packages.

Sources: the man pages of section 2, and the kernel's include/uapi headers.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_ulong, c_void_p

_libc = ctypes.CDLL(None, use_errno=True)
# Keeps the GIL: for what takes less than to wake up whoever waits for the GIL, in vain.
_quick_libc = ctypes.PyDLL(None, use_errno=True)

# --- include/uapi/linux/sched.h -------------------------------------------------------------
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# --- include/uapi/linux/mount.h -------------------------------------------------------------
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21

MNT_FORCE = 0x1
MNT_DETACH = 0x2
MNT_EXPIRE = 0x4
UMOUNT_NOFOLLOW = 0x8

OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# --- include/uapi/linux/openat2.h -----------------------------------------------------------
RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
RESOLVE_IN_ROOT = 0x10

# --- include/uapi/linux/prctl.h -------------------------------------------------------------
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# --- include/uapi/linux/seccomp.h -----------------------------------------------------------
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2

# --- include/uapi/linux/keyctl.h ------------------------------------------------------------
KEYCTL_JOIN_SESSION_KEYRING = 1

# --- include/uapi/linux/close_range.h -------------------------------------------------------
CLOSE_RANGE_CLOEXEC = 1 << 2

# System call numbers. From 424 on every architecture agrees; the older ones are listed for the
# two that podlite is meant for.
_NR_OLD = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "seccomp": 317, "bpf": 321},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "seccomp": 277, "bpf": 280},
}
_NR_NEW = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
# os.uname().machine is that of the kernel; a 32-bit interpreter on a 64-bit kernel is not supported.
NR = {**_NR_OLD.get(os.uname().machine, _NR_OLD["x86_64"]), **_NR_NEW}


class mount_attr(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    ]


class open_how(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


class _cap_header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", c_int)]


class _cap_data(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def _prototype(name: str, *argtypes: object, library: ctypes.CDLL = _libc) -> ctypes._NamedFuncPointer:
    function = getattr(library, name)
    function.restype = c_int
    function.argtypes = list(argtypes)
    return function  # type: ignore[no-any-return]


_unshare = _prototype("unshare", c_int)
_setns = _prototype("setns", c_int, c_int)
_setns_net = _prototype("setns", c_int, c_int, library=_quick_libc)
_mount = _prototype("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _prototype("umount2", c_char_p, c_int)
_prctl = _prototype("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = _prototype("capset", c_void_p, c_void_p)
_capget = _prototype("capget", c_void_p, c_void_p)
_setdomainname = _prototype("setdomainname", c_char_p, c_size_t)
_fstatfs = _prototype("fstatfs", c_int, c_void_p)
_syncfs = _prototype("syncfs", c_int)


def _syscall_prototype(*argtypes: object) -> ctypes._FuncPointer:
    """syscall(2) with fixed argument types; each is an instance of its own, so none is ever re-typed."""
    return ctypes.CFUNCTYPE(c_long, c_long, *argtypes, use_errno=True)(("syscall", _libc))  # type: ignore[arg-type]


_sys_path2 = _syscall_prototype(c_char_p, c_char_p)
_sys_open_tree = _syscall_prototype(c_int, c_char_p, c_uint)
_sys_move_mount = _syscall_prototype(c_int, c_char_p, c_int, c_char_p, c_uint)
_sys_fsopen = _syscall_prototype(c_char_p, c_uint)
_sys_fsconfig = _syscall_prototype(c_int, c_uint, c_char_p, c_char_p, c_int)
_sys_fsmount = _syscall_prototype(c_int, c_uint, c_uint)
_sys_mount_setattr = _syscall_prototype(c_int, c_char_p, c_uint, c_void_p, c_size_t)
_sys_openat2 = _syscall_prototype(c_int, c_char_p, c_void_p, c_size_t)
_sys_close_range = _syscall_prototype(c_uint, c_uint, c_uint)
_sys_seccomp = _syscall_prototype(c_uint, c_uint, c_void_p)
_sys_keyctl = _syscall_prototype(c_int, c_char_p)
_sys_bpf = _syscall_prototype(c_int, c_void_p, c_uint)
_sys_pidfd_getfd = _syscall_prototype(c_int, c_int, c_uint)


def _error(call: str, about: str = "") -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}", about or None)


def _fspath(path: str | bytes | os.PathLike[str]) -> bytes:
    return os.fsencode(path)


# --- namespaces -----------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread (process-wide only for CLONE_NEWPID's children)."""
    if _unshare(flags) < 0:
        raise _error("unshare", hex(flags))


def setns(fd: int, nstype: int) -> None:
    """setns(2): moves the calling thread into the namespace of `fd` (an nsfs fd, or a pidfd with flags)."""
    # Into a network namespace is an assignment: 2 µs, without a lock that anybody holds for long.
    if (_setns_net if nstype == CLONE_NEWNET else _setns)(fd, nstype) < 0:
        raise _error("setns", f"fd {fd}, type {nstype:#x}")


# --- mounts ---------------------------------------------------------------------------------


def mount(
    source: str | None, target: str | os.PathLike[str], fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    if (
        _mount(
            None if source is None else _fspath(source),
            _fspath(target),
            None if fstype is None else fstype.encode(),
            flags,
            None if data is None else data.encode(),
        )
        < 0
    ):
        raise _error("mount", os.fspath(target))


def umount2(target: str | os.PathLike[str], flags: int = 0) -> None:
    """umount2(2)."""
    if _umount2(_fspath(target), flags) < 0:
        raise _error("umount2", os.fspath(target))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    if _sys_path2(NR["pivot_root"], _fspath(new_root), _fspath(put_old)) < 0:
        raise _error("pivot_root", new_root)


def open_tree(dirfd: int, path: str | bytes | os.PathLike[str], flags: int) -> int:
    """open_tree(2). With OPEN_TREE_CLONE the result is a detached copy of the mount(s) at `path`."""
    fd = _sys_open_tree(NR["open_tree"], dirfd, _fspath(path), flags | OPEN_TREE_CLOEXEC)
    if fd < 0:
        raise _error("open_tree", os.fsdecode(path))
    return int(fd)


def move_mount(
    from_fd: int, from_path: str | bytes, to_fd: int, to_path: str | bytes | os.PathLike[str], flags: int
) -> None:
    """move_mount(2)."""
    if _sys_move_mount(NR["move_mount"], from_fd, _fspath(from_path), to_fd, _fspath(to_path), flags) < 0:
        raise _error("move_mount", os.fsdecode(to_path) or f"fd {to_fd}")


def fsopen(fstype: str) -> int:
    """fsopen(2): a new filesystem configuration context."""
    fd = _sys_fsopen(NR["fsopen"], fstype.encode(), FSOPEN_CLOEXEC)
    if fd < 0:
        raise _error("fsopen", fstype)
    return int(fd)


def fsconfig(fd: int, cmd: int, key: str | None = None, value: str | bytes | None = None, aux: int = 0) -> None:
    """fsconfig(2). On failure the kernel's own message, where it left one in `fd`, is in the error."""
    if (
        _sys_fsconfig(
            NR["fsconfig"],
            fd,
            cmd,
            None if key is None else key.encode(),
            None if value is None else _fspath(value),
            aux,
        )
        < 0
    ):
        error = _error("fsconfig", key or "create")
        said = _fscontext_log(fd)
        if said:
            error.strerror = f"{error.strerror} ({said})"
        raise error


def _fscontext_log(fd: int) -> str:
    """What the filesystem wrote into its context's log: `e <message>` lines, one per read."""
    lines = []
    for _ in range(16):
        try:
            line = os.read(fd, 1024)
        except OSError:
            break
        if not line:
            break
        lines.append(line.decode(errors="replace").strip().removeprefix("e "))
    return "; ".join(lines)


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """fsmount(2): a detached mount of the configured filesystem, as an fd."""
    mount_fd = _sys_fsmount(NR["fsmount"], fd, FSMOUNT_CLOEXEC, attr_flags)
    if mount_fd < 0:
        raise _error("fsmount")
    return int(mount_fd)


def mount_setattr(
    dirfd: int,
    path: str,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2)."""
    attr = mount_attr(attr_set, attr_clr, propagation, userns_fd)
    if (
        _sys_mount_setattr(NR["mount_setattr"], dirfd, _fspath(path), flags, ctypes.byref(attr), ctypes.sizeof(attr))
        < 0
    ):
        raise _error("mount_setattr", path or f"fd {dirfd}")


def openat2(dirfd: int, path: str | bytes | os.PathLike[str], flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), retried on EAGAIN, which RESOLVE_IN_ROOT returns when a rename raced with a `..`."""
    how = open_how(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(128):
        fd = _sys_openat2(NR["openat2"], dirfd, _fspath(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        if ctypes.get_errno() != 11:  # EAGAIN
            break
    raise _error("openat2", os.fsdecode(path))


# include/uapi/linux/magic.h
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994
OVERLAYFS_SUPER_MAGIC = 0x794C7630
CGROUP2_SUPER_MAGIC = 0x63677270
NSFS_MAGIC = 0x6E736673


def filesystem_type(fd: int) -> int:
    """fstatfs(2): the magic number of the filesystem that `fd` lies on."""
    # struct statfs is 120 bytes on 64-bit machines; f_type is its first word.
    buffer = ctypes.create_string_buffer(256)
    if _fstatfs(fd, buffer) < 0:
        raise _error("fstatfs", f"fd {fd}")
    return int.from_bytes(buffer.raw[:8], "little")


def syncfs(fd: int) -> None:
    """syncfs(2): writes back the whole filesystem that `fd` lies on, and waits."""
    if _syncfs(fd) < 0:
        raise _error("syncfs", f"fd {fd}")


# --- processes ------------------------------------------------------------------------------


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) for the options whose arguments are integers."""
    result = _prctl(option, arg2, arg3, arg4, arg5)
    if result < 0:
        raise _error("prctl", str(option))
    return int(result)


def set_name(name: str) -> None:
    """PR_SET_NAME: the thread's name in /proc/PID/comm, cut to 15 bytes by the kernel."""
    buffer = ctypes.create_string_buffer(name.encode(errors="replace")[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread; each argument is a bit mask of up to 64 capabilities."""
    header = _cap_header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_cap_data * 2)()
    for half in (0, 1):
        shift = 32 * half
        data[half].effective = effective >> shift & 0xFFFFFFFF
        data[half].permitted = permitted >> shift & 0xFFFFFFFF
        data[half].inheritable = inheritable >> shift & 0xFFFFFFFF
    if _capset(ctypes.byref(header), ctypes.byref(data)) < 0:
        raise _error("capset")


def capget() -> tuple[int, int, int]:
    """capget(2) of the calling thread: (effective, permitted, inheritable) bit masks."""
    header = _cap_header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_cap_data * 2)()
    if _capget(ctypes.byref(header), ctypes.byref(data)) < 0:
        raise _error("capget")
    low, high = data[0], data[1]
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def seccomp(operation: int, flags: int, args: int | None) -> int:
    """seccomp(2); `args` is the address of the operation's argument."""
    result = _sys_seccomp(NR["seccomp"], operation, flags, args)
    if result < 0:
        raise _error("seccomp")
    return int(result)


def keyctl_join_session_keyring(name: str | None) -> None:
    """keyctl(KEYCTL_JOIN_SESSION_KEYRING): a fresh session keyring, so that no caller's keys are inherited."""
    if _sys_keyctl(NR["keyctl"], KEYCTL_JOIN_SESSION_KEYRING, None if name is None else name.encode()) < 0:
        raise _error("keyctl")


def bpf(cmd: int, attr: ctypes.Array[ctypes.c_char] | ctypes.Structure) -> int:
    """bpf(2)."""
    result = _sys_bpf(NR["bpf"], cmd, ctypes.byref(attr), ctypes.sizeof(attr))
    if result < 0:
        raise _error("bpf", str(cmd))
    return int(result)


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2)."""
    if _sys_close_range(NR["close_range"], first, last, flags) < 0:
        raise _error("close_range")


def pidfd_getfd(pidfd: int, target_fd: int) -> int:
    """pidfd_getfd(2): a duplicate of another process's file descriptor."""
    fd = _sys_pidfd_getfd(NR["pidfd_getfd"], pidfd, target_fd, 0)
    if fd < 0:
        raise _error("pidfd_getfd", f"fd {target_fd}")
    return int(fd)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    raw = name.encode()
    if _setdomainname(raw, len(raw)) < 0:
        raise _error("setdomainname", name)
