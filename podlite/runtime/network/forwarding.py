"""The kernel's forwarding switches: changed only where pods' packets need it, recorded first, and put back.

IPv4 asks the device a packet comes in by. A pod's host end has its own switch on from the start (it is in the
batch that makes it), so pods reach each other without anything here; answers from elsewhere come in by the
uplinks, and those are switched on one by one. ip_forward, which would make a router of every device, stays as it
is: if it is on, there is nothing to do.

IPv6 asks only conf/all/forwarding, for everything, and that has a side effect: a router does not accept router
advertisements, so the host would lose its own addresses and default route when they expire. Devices that accept
them are therefore set to accept_ra=2, "even as a router", before the switch. (Kernel: ip-sysctl.rst.)

The record is <run-dir>/network/sysctls.json, changed under the network's lock: the values before the first
change, which later ones never overwrite. Paths are below /proc/sys/net of the calling thread's namespace.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from podlite.linux.fs import read_file, replace_file
from podlite.runtime.network.constants import is_host_interface

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "/proc/sys/net"

Write = tuple[str, str]


class Before6(msgspec.Struct, frozen=True):
    """A device's settings before conf/all/forwarding was changed."""

    forwarding: str
    accept_ra: str


class Recorded(msgspec.Struct, kw_only=True):
    """`ipv4`: device → its forwarding before. `ipv6`: the same for every device and `default`, if all/forwarding
    was changed."""

    version: int = 1
    ipv4: dict[str, str] = {}
    ipv6: dict[str, Before6] = {}


def plan_ipv4(all_forwarding: str, uplinks: Mapping[str, str]) -> tuple[dict[str, str], list[Write]]:
    """(what to record, what to write), from all/forwarding and each uplink's forwarding."""
    if all_forwarding != "0":
        return {}, []
    before = {name: value for name, value in uplinks.items() if value == "0"}
    return before, [(f"ipv4/conf/{name}/forwarding", "1") for name in before]


def plan_ipv6(all_forwarding: str, devices: Mapping[str, Before6]) -> tuple[dict[str, Before6], list[Write]]:
    """(what to record, what to write), from all/forwarding and the settings of every device and of `default`."""
    if all_forwarding != "0":
        return {}, []
    keep = [
        (f"ipv6/conf/{name}/accept_ra", "2")
        for name, now in devices.items()
        if name not in ("default", "lo") and now.accept_ra == "1" and now.forwarding == "0"
    ]
    return dict(devices), [*keep, ("ipv6/conf/all/forwarding", "1")]


def plan_restore(recorded: Recorded, now: Mapping[str, str]) -> list[Write]:
    """What to write to undo what was recorded, given the present values by path.

    A value that somebody else has changed since is theirs and stays; so does an uplink's forwarding if
    ip_forward has been switched on meanwhile, for then it would be on without us.
    """
    writes = []
    if now.get("ipv4/conf/all/forwarding") == "0":
        for name, before in recorded.ipv4.items():
            if now.get(f"ipv4/conf/{name}/forwarding") == "1":
                writes.append((f"ipv4/conf/{name}/forwarding", before))
    if not recorded.ipv6:
        return writes
    if now.get("ipv6/conf/all/forwarding") == "1":
        # This sets every device's own, so those that were on before come after it.
        writes.append(("ipv6/conf/all/forwarding", "0"))
        for name, before6 in recorded.ipv6.items():
            if before6.forwarding == "1" and f"ipv6/conf/{name}/forwarding" in now:
                writes.append((f"ipv6/conf/{name}/forwarding", "1"))
    for name, before6 in recorded.ipv6.items():
        if before6.accept_ra == "1" and now.get(f"ipv6/conf/{name}/accept_ra") == "2":
            writes.append((f"ipv6/conf/{name}/accept_ra", "1"))
    return writes


class Forwarding:
    """The effects. Everything is called with the network's lock held, and raises OSError."""

    def __init__(self, directory: str) -> None:
        """`directory` is <run-dir>/network."""
        self._path = f"{directory}/sysctls.json"

    def ensure(self, uplinks4: list[str], *, ipv6: bool) -> None:
        """Lets pods' packets pass between them and the uplinks, and between pods for IPv6. Idempotent."""
        before4, writes = plan_ipv4(
            _read("ipv4/conf/all/forwarding"),
            {name: _read(f"ipv4/conf/{name}/forwarding") for name in uplinks4},
        )
        before6: dict[str, Before6] = {}
        if ipv6 and _read("ipv6/conf/all/forwarding") == "0":
            before6, writes6 = plan_ipv6("0", _devices6())
            writes += writes6
        if not writes:
            return
        recorded = self._load()
        recorded.ipv4 = {**before4, **recorded.ipv4}
        recorded.ipv6 = {**before6, **recorded.ipv6}
        replace_file(self._path, msgspec.json.encode(recorded), scratch=f"{self._path}.new", durable=False)
        for path, value in writes:
            _write(path, value)

    def restore(self) -> None:
        """Puts back what `ensure` of any process changed, and forgets it. Idempotent."""
        recorded = self._load()
        paths = {"ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"}
        paths |= {f"ipv4/conf/{name}/forwarding" for name in recorded.ipv4}
        paths |= {f"ipv6/conf/{name}/{key}" for name in recorded.ipv6 for key in ("forwarding", "accept_ra")}
        now = {path: value for path in paths if (value := _read(path))}
        for path, value in plan_restore(recorded, now):
            _write(path, value)
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def _load(self) -> Recorded:
        try:
            return msgspec.json.decode(read_file(self._path), type=Recorded)
        except FileNotFoundError:
            return Recorded()


def not_forwarding(uplinks: Mapping[int, list[str]], *, ipv6: bool) -> list[str]:
    """The uplinks whose answers do not get to pods, as sentences. (Before the first pod that is as it should be.)"""
    said = [
        f"Packets that come in by {name} are not forwarded to pods: net.ipv4.conf.{name}.forwarding is 0."
        for name in uplinks.get(4, [])
        if _read(f"ipv4/conf/{name}/forwarding") == "0"
    ]
    if ipv6 and _read("ipv6/conf/all/forwarding") == "0":
        said.append("Pods reach nothing but this host by IPv6: net.ipv6.conf.all.forwarding is 0.")
    return said


def host_end_accepts_advertisements() -> bool:
    """Whether a new device in this namespace would take router advertisements from its other end: a pod must not
    be able to give the host a route. False without IPv6."""
    accept_ra = _read("ipv6/conf/default/accept_ra")
    forwarding = _read("ipv6/conf/default/forwarding")
    return accept_ra == "2" or (accept_ra == "1" and forwarding == "0")


def refuse_advertisements(host_interface: str) -> None:
    """accept_ra=0 on a host end. Raises OSError."""
    _write(f"ipv6/conf/{host_interface}/accept_ra", "0")


def _devices6() -> dict[str, Before6]:
    """Every device but `all` and the pods' host ends, which come and go with their pods."""
    found = {}
    for name in os.listdir(f"{ROOT}/ipv6/conf"):
        if name == "all" or is_host_interface(name):
            continue
        forwarding, accept_ra = _read(f"ipv6/conf/{name}/forwarding"), _read(f"ipv6/conf/{name}/accept_ra")
        if forwarding:  # gone meanwhile otherwise
            found[name] = Before6(forwarding, accept_ra)
    return found


def _read(path: str) -> str:
    """A setting, or nothing if there is none of that name (its device may be gone)."""
    try:
        return read_file(f"{ROOT}/{path}").decode().strip()
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    try:
        fd = os.open(f"{ROOT}/{path}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # its device is gone
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
