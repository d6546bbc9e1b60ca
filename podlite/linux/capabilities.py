"""Capabilities: names and bits, a container's five sets, and giving up the rest.

Everything is a bit mask here; names are CRI's, without the `CAP_` prefix (which is accepted and ignored).

Sources: capabilities(7); include/uapi/linux/capability.h; the message Capability of CRI v1.

Standard library only: the shim runs this.
"""

from __future__ import annotations

from podlite.linux.syscalls import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    capget,
    capset,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their bits; complete as of Linux 6.18 (nothing was added after CHECKPOINT_RESTORE, 5.9).
NAMES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
_BITS = {name: 1 << number for number, name in enumerate(NAMES)}

# What docker, containerd and CRI-O's ancestors give to a container that asks for nothing.
DEFAULT = sum(
    _BITS[name]
    for name in (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)

_last_cap = -1


# What each step of making a pod needs; the rest is only passed on to containers.
ESSENTIAL = {
    "SYS_ADMIN": "namespaces and mounts cannot be made",
    "NET_ADMIN": "pods cannot have a network",
    "SETUID": "containers cannot change to their user",
    "SETGID": "containers cannot change to their group",
    "SETPCAP": "containers cannot give up capabilities",
    "CHOWN": "image layers and volumes cannot be unpacked with their owners",
    "DAC_OVERRIDE": "image layers and volumes cannot be written",
    "FOWNER": "image layers and volumes cannot be unpacked with their modes",
    "MKNOD": "the standard device nodes of containers cannot be made",
    "KILL": "containers cannot be stopped",
}


def last_cap() -> int:
    """The highest capability that this kernel knows; that of the newest kernel we know where /proc does not say."""
    global _last_cap
    if _last_cap < 0:
        try:
            with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
                _last_cap = int(file.read())
        except OSError:
            _last_cap = len(NAMES) - 1
    return _last_cap


def every() -> int:
    """The mask of all capabilities that this kernel has."""
    return (1 << (last_cap() + 1)) - 1


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def bit(name: str) -> int:
    """The mask with this one capability. Raises LookupError for a name that is not a capability's."""
    try:
        return _BITS[_plain(name)]
    except KeyError:
        raise LookupError(f"{name!r} is not the name of a capability") from None


def mask(names: Iterable[str]) -> int:
    """The capabilities of these names. Raises LookupError for a name that is not a capability's."""
    result = 0
    for name in names:
        result |= bit(name)
    return result


def names(mask: int) -> list[str]:
    """The names of the capabilities in a mask, by number; one newer than NAMES is called by its number."""
    numbers = [number for number in range(mask.bit_length()) if mask >> number & 1]
    return [NAMES[number] if number < len(NAMES) else str(number) for number in numbers]


def unknown(names: Iterable[str]) -> list[str]:
    """Those of the names that are neither a capability of this kernel nor `ALL`; `for_container` ignores them."""
    possible = every()
    return [name for name in names if _plain(name) != "ALL" and not _BITS.get(_plain(name), 0) & possible]


class Capabilities:
    """The five sets of a process, as masks, before it executes the container's program."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(
        self, *, bounding: int, permitted: int, effective: int, inheritable: int = 0, ambient: int = 0
    ) -> None:
        self.bounding = bounding
        self.permitted = permitted
        self.effective = effective
        self.inheritable = inheritable
        self.ambient = ambient

    def as_dict(self) -> dict[str, int]:
        """The sets by name, for a message to the shim."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Capabilities) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Capabilities({', '.join(f'{name}={getattr(self, name):#x}' for name in self.__slots__)})"


def for_container(
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    ambient: Iterable[str] = (),
    *,
    privileged: bool = False,
    uid: int = 0,
    possible: int | None = None,
) -> Capabilities:
    """The sets for a container's process, from CRI's Capability. Pure if `possible`, what the kernel has, is given.

    - `ALL` in `add` starts from every capability, `ALL` in `drop` from none, and both from none; then the
      others are added, and at last the others are dropped.
    - `ambient` capabilities join all five sets, unless they are dropped.
    - `privileged` has every capability, whatever else is said, and of `ambient` what is said.
    - The inheritable set holds nothing but ambient capabilities: with more in it a program file's inheritable
      bits would come alive in a container (CVE-2022-29162).
    - For another user than root the permitted and effective sets hold the ambient capabilities only. execve(2)
      would reduce them to that anyway, but until then they must not decide which files can be executed.
    - Names that the kernel does not know are ignored; `unknown` lists them for a warning.
    """
    if possible is None:
        possible = every()
    adding, dropping = {_plain(name) for name in add}, {_plain(name) for name in drop}
    granted = DEFAULT
    if "ALL" in adding:
        granted = possible
    if "ALL" in dropping:
        granted = 0
    dropped = _known(dropping)
    raised = possible & _known({_plain(name) for name in ambient})
    if privileged:
        granted, dropped = possible, 0
    granted = (granted | _known(adding) | raised) & possible & ~dropped
    raised &= ~dropped
    held = granted if uid == 0 else raised
    return Capabilities(bounding=granted, permitted=held, effective=held, inheritable=raised, ambient=raised)


def _known(plain_names: set[str]) -> int:
    result = 0
    for name in plain_names:
        result |= _BITS.get(name, 0)
    return result


def missing() -> list[str]:
    """Those of ESSENTIAL that this process does not have."""
    _, permitted, _ = capget()
    return [name for name in ESSENTIAL if not bit(name) & permitted]


def held() -> int:
    """What this process can give to a child: its bounding set, as far as it is permitted too.

    The bounding set is read once: nobody but the process itself can change it, which takes one system call for each.
    """
    global _bounding
    if _bounding < 0:
        _bounding = sum(1 << number for number in range(last_cap() + 1) if prctl(PR_CAPBSET_READ, number) == 1)
    _, permitted, _ = capget()
    return _bounding & permitted


_bounding = -1


def limit(wanted: Capabilities, available: int) -> tuple[Capabilities, list[str]]:
    """The sets as far as they are `available` (see `held`), and the names of what is missing, for a warning. Pure.

    Not for a container in a user namespace of its own: its first process has every capability there.
    """
    missing = names(wanted.bounding & ~available)
    limited = Capabilities(**{name: value & available for name, value in wanted.as_dict().items()})
    return limited, missing


# --- in the process itself --------------------------------------------------------------------


def drop_bounding(keep: int) -> None:
    """Takes everything but `keep` out of the calling thread's bounding set; what is gone already is no error.

    Needs CAP_SETPCAP, so it comes before the change of user. Raises OSError.
    """
    for number in range(last_cap() + 1):
        if not keep >> number & 1:
            prctl(PR_CAPBSET_DROP, number)


def set_ambient(mask: int) -> None:
    """Makes `mask` the calling thread's ambient set; each must be permitted and inheritable. Raises OSError."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(mask.bit_length()):
        if mask >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def set_capabilities(wanted: Capabilities) -> None:
    """Sets all but the bounding set of the calling thread. Raises OSError.

    After a change of user from root this works only if PR_SET_KEEPCAPS was set before it.
    """
    capset(wanted.effective, wanted.permitted, wanted.inheritable)
    set_ambient(wanted.ambient)
