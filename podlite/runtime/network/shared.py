"""What all pods of the machine share: the nftables table, the forwarding switches, the IPv6 gateway's address.

Made by whoever needs it first, taken back by whoever finds no pod left, each under the network's lock:

    <run-dir>/locks/network           the lock
    <run-dir>/network/shared.json     what there may be of it; written before it is made, removed after it is gone
    <run-dir>/network/addresses/      a reservation in here is a pod, and so a claim on all of it

A pod that finds shared.json there does not take the lock. That is safe because each side leaves its mark before
it looks at the other's: a pod reserves its address and then looks for shared.json; whoever takes things back moves
shared.json aside and then looks for reservations, and if there is one moves it back and leaves everything alone.

The table is made only where there is something for it to do: an uplink to masquerade to, or a host port. It takes
0.5 ms to make (a transaction of 24 messages) and 0.2 ms to delete; what takes a grace period is closing the socket
after that, which is left to the end of the process (netlink.SocketPool).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from podlite import log
from podlite.cri.errors import NetworkSetupError
from podlite.errors import explain
from podlite.linux.fs import read_file, replace_file
from podlite.linux.netlink import NetlinkError
from podlite.runtime.locks import FileLock
from podlite.runtime.network import templates
from podlite.runtime.network.addresses import Addresses, address_text, parse_address
from podlite.runtime.network.forwarding import Forwarding
from podlite.runtime.network.hostports import NO_NFTABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podlite.linux.netlink import NetlinkSocket, SocketPool, Template
    from podlite.runtime.network.survey import Survey

# The lock is held for the few milliseconds of a change; longer, and its holder is stopped or hangs.
LOCK_SECONDS = 20.0
# How long podlite's rules in somebody else's firewall are taken for granted: looking takes tens of milliseconds.
LOOK_SECONDS = 15.0


class Shared(msgspec.Struct, kw_only=True):
    """`table`: whether the nftables table may be there. `gateways`: addresses that may be on `lo`."""

    version: int = 1
    table: bool = False
    gateways: list[str] = []


class SharedState:
    """Ensures and releases it, for one process. Safe between threads and between processes. All functions block."""

    def __init__(
        self,
        run_dir: str,
        addresses: Addresses,
        rtnetlink: SocketPool,
        nftables: SocketPool,
        republish: Callable[[NetlinkSocket], None],
        integrate: Sequence[str] = (),
    ) -> None:
        """`republish(nftables socket)` puts all reserved host ports into a table that has just been made; `integrate`
        are the ranges that other people's firewalls are to let through, none for leaving those as they are."""
        self._integrate = integrate
        self._look_again = 0.0
        self._rtnetlink = rtnetlink
        self._nftables = nftables
        self._directory = f"{run_dir}/network"
        self._path = f"{self._directory}/shared.json"
        # Moved aside: either nobody is left and it is being taken back, or whoever did that was killed.
        self._leaving = f"{self._path}.leaving"
        self._lock_path = f"{run_dir}/locks/network"
        self._addresses = addresses
        self._republish = republish
        self._forwarding = Forwarding(self._directory)
        self._ensured: set[bytes] = set()
        self._with_table = False
        self._no_nftables = False
        # flock(2) is between open files; this is between the threads that would wait for one another by polling.
        self._threads = threading.Lock()

    def ensure(self, survey: Survey, gateway6: bytes, *, host_ports: bool) -> bool:
        """Makes what is not there; True if there is a table. Called by each pod, after it has reserved its address.

        Without nftables pods still get a network, without masquerade, and a warning is logged once; with
        `host_ports` that is a NetworkSetupError instead. Raises OSError.
        """
        wants_table = host_ports or any(survey.uplinks.values())
        # Without nftables only a host port asks again, for its error.
        satisfied = self._with_table or not wants_table or (self._no_nftables and not host_ports)
        if satisfied and gateway6 in self._ensured and os.path.exists(self._path) and not self._integration_due():
            return self._with_table
        with self._threads, self.lock():
            self._come_back()
            recorded = self._load()
            table = wants_table or recorded.table
            gateways = sorted({*recorded.gateways, *([address_text(gateway6)] if gateway6 else [])})
            self._store(Shared(table=table, gateways=gateways))
            self._ensure_gateways(gateways)
            if table:
                table = self._ensure_table(required=host_ports)
            self._ensure_forwarding(survey, ipv6=bool(gateway6))
            self._let_pods_through()
            self._with_table = table
            self._ensured.add(gateway6)
            return table

    def release_unused(self) -> bool:
        """Takes everything back if there is no pod; True if there is none. Idempotent. Raises OSError."""
        if not (os.path.exists(self._path) or os.path.exists(self._leaving)):
            return not self._addresses.any_reserved()
        with self._threads, self.lock():
            try:
                os.rename(self._path, self._leaving)
            except FileNotFoundError:
                if not os.path.exists(self._leaving):
                    return not self._addresses.any_reserved()
            if self._addresses.any_reserved():
                os.rename(self._leaving, self._path)
                return False
            self._ensured.clear()
            self._with_table = False
            recorded = msgspec.json.decode(read_file(self._leaving), type=Shared)
            if recorded.table:
                self._delete_table()
            self._delete_gateways(recorded.gateways)
            self._forwarding.restore()
            if os.path.exists(f"{self._directory}/firewall.json"):
                from podlite.runtime.network.integration import Integration

                Integration(self._directory).restore()
            os.unlink(self._leaving)
            return True

    def integrate_again(self) -> None:
        """Looks at other people's firewalls again, at most every LOOK_SECONDS: a reload of theirs has taken our rules
        out. Nothing without `integrate`, or without pods. Raises NetworkSetupError, OSError."""
        if self._integration_due() and self._ensured and os.path.exists(self._path):
            with self._threads, self.lock():
                self._let_pods_through()

    def forget(self) -> None:
        """Makes the next pod look at everything anew: somebody may have flushed the rules, or added an uplink."""
        self._ensured.clear()

    def table_missing(self) -> bool:
        """Whether there should be a table of this version, and is none. Raises OSError."""
        try:
            recorded = self._load()
        except FileNotFoundError:
            return False
        if not recorded.table or self._no_nftables:
            return False
        with self._nftables.lease() as netlink:
            return _table_comment(netlink) is None

    def lock(self) -> TimedLock:
        """The lock under which all of this and the host ports' reservations change; a context manager."""
        os.makedirs(os.path.dirname(self._lock_path), mode=0o700, exist_ok=True)
        return TimedLock(self._lock_path)

    # --- under the lock ---------------------------------------------------------------------

    def _come_back(self) -> None:
        """After a process that was killed while it took things back: all of it may be there."""
        try:
            os.rename(self._leaving, self._path)
        except FileNotFoundError:
            pass

    def _load(self) -> Shared:
        try:
            return msgspec.json.decode(read_file(self._path), type=Shared)
        except FileNotFoundError:
            return Shared()

    def _store(self, shared: Shared) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        replace_file(self._path, msgspec.json.encode(shared), scratch=f"{self._path}.new", durable=False)

    def _ensure_gateways(self, gateways: list[str]) -> None:
        with self._rtnetlink.lease() as netlink:
            for gateway in gateways:
                _tolerating(netlink, templates.ADD_GATEWAY6, gateway, (errno.EEXIST,))

    def _delete_gateways(self, gateways: list[str]) -> None:
        with self._rtnetlink.lease() as netlink:
            for gateway in gateways:
                _tolerating(netlink, templates.DELETE_GATEWAY6, gateway, (errno.EADDRNOTAVAIL, errno.ESRCH))

    def _ensure_table(self, *, required: bool) -> bool:
        try:
            with self._nftables.lease() as netlink:
                self._make_table(netlink)
            return True
        except OSError as error:
            if error.errno not in NO_NFTABLES:
                raise
            if required:
                raise NetworkSetupError(
                    f"The pod's host ports need nftables, which does not work here: {explain(error)}.",
                    hint="a kernel with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ and CONFIG_NFT_FIB_INET"
                    " has what it takes",
                ) from error
            if not self._no_nftables:
                self._no_nftables = True
                log.warning(
                    "pods have no masquerade, and so reach only the host and each other: nftables does not work here",
                    error=explain(error),
                )
            return False

    def _make_table(self, netlink: NetlinkSocket) -> None:
        try:
            netlink.transact(templates.CREATE_TABLE, {})
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            from podlite.runtime.network import ruleset

            if _table_comment(netlink) == ruleset.COMMENT:
                return
            # Another version's: in one transaction, so that no packet passes without rules.
            errors = netlink.submit(*ruleset.build_table(replace=True))
            if errors:
                raise errors[0] from None
        self._republish(netlink)

    def _delete_table(self) -> None:
        try:
            with self._nftables.lease() as netlink:
                netlink.transact(templates.DELETE_TABLE, {})
        except OSError as error:
            if error.errno not in NO_NFTABLES:
                raise

    def _integration_due(self) -> bool:
        return bool(self._integrate) and time.monotonic() >= self._look_again

    def _let_pods_through(self) -> None:
        if self._integrate:
            from podlite.runtime.network.integration import Integration

            self._look_again = time.monotonic() + LOOK_SECONDS
            Integration(self._directory).ensure(self._integrate)

    def _ensure_forwarding(self, survey: Survey, *, ipv6: bool) -> None:
        try:
            self._forwarding.ensure(survey.uplinks.get(4, []), ipv6=ipv6)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            log.warning(
                "pods may not reach beyond this host: forwarding is off, and /proc/sys cannot be written",
                error=explain(error),
            )


class TimedLock:
    """A FileLock that is not waited for longer than LOCK_SECONDS."""

    def __init__(self, path: str) -> None:
        self._lock = FileLock(path)

    def __enter__(self) -> None:
        if self._lock.acquire(wait=False):
            return
        deadline = time.monotonic() + LOCK_SECONDS
        pause = 0.0005
        while not self._lock.acquire(wait=False):
            if time.monotonic() > deadline:
                raise NetworkSetupError(
                    f"Another podlite process has held the lock {self._lock.path} for {LOCK_SECONDS:.0f} seconds.",
                    hint=f"`fuser {self._lock.path}` names it; it may be stopped",
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _table_comment(netlink: NetlinkSocket) -> str | None:
    """The comment of our table, None if there is no table."""
    from podlite.linux.nftables import get_table, table_comment
    from podlite.runtime.network.ruleset import TABLE

    reply = netlink.request(get_table(TABLE))
    return None if reply is None else table_comment(reply)


def _tolerating(netlink: NetlinkSocket, template: Template, gateway: str, tolerated: tuple[int, ...]) -> None:
    batch = template.fill({"gateway6": parse_address(gateway) or b""})
    for error in netlink.submit(batch, len(template.steps)):
        if error.errno not in tolerated:
            raise error
