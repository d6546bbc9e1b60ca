"""Once in a process: does somebody else's firewall stop pods? Said in the log, with the rule that would help.

Beside everything else, and when the first pods have been made: nft(8) takes tens of milliseconds to list the rules, and
what reads them ten of a processor that a pod in the making needs. Whoever ends sooner has met no firewall.
"""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING

from podlite import log
from podlite.cri.errors import CRIError
from podlite.linux.netlink import NetlinkSocket, attributes_of
from podlite.runtime.network.legacy_rules import has_legacy_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.linux.netlink import SocketPool


# From linux/netfilter/nf_tables.h, nfnetlink.h and netfilter.h. Not from podlite.linux.nftables: every first pod comes
# by here, and importing that takes longer than all the rest.
_GET_CHAINS = 10 << 8 | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
_CHAIN_HOOK, _HOOK_NUMBER = 4, 1  # NFTA_CHAIN_HOOK, NFTA_HOOK_HOOKNUM
_FORWARD = struct.pack(">I", 2)  # NF_INET_FORWARD
_FAMILIES = (1, 2, 10)  # NFPROTO_INET, _IPV4, _IPV6
# What stops packets is noticed after seconds; by this time a first pod is up.
_LATER_SECONDS = 0.25


class ForeignWarning:
    """The warning of one network."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()

    def begin(self, nftables: SocketPool, cidrs: Sequence[str]) -> None:
        """Looks, in a thread of its own, if there is anybody on the forward path at all, which is found at once."""
        try:
            with nftables.lease() as netlink:
                anybody = _has_forward_chain(netlink)
        except OSError:
            anybody = False  # no nftables
        if anybody or has_legacy_rules():
            # Nobody waits for it, and a program that ends does not either.
            threading.Thread(target=self._look, args=(cidrs,), name="podlite-rules", daemon=True).start()

    def close(self) -> None:
        """From here on nothing is said any more: a thread must not be writing when the interpreter ends. Idempotent."""
        with self._lock:
            self._done.set()

    def _look(self, cidrs: Sequence[str]) -> None:
        if self._done.wait(_LATER_SECONDS):
            return
        from podlite.runtime.network.foreign_rules import find_drops, read_ruleset

        try:
            said = [str(each) for each in find_drops(read_ruleset(), cidrs) if each.hook == "forward"]
        except (OSError, CRIError):
            return  # no nft(8) here, so nobody has made rules by it; `podlite check --network` says so
        with self._lock:
            for text in said if not self._done.is_set() else ():
                log.warning(text, hint="--firewall=integrate adds such a rule while there are pods")


def _has_forward_chain(netlink: NetlinkSocket) -> bool:
    """Whether there is a base chain on the forward path; ours are elsewhere."""
    for payload in netlink.dump(_GET_CHAINS, bytes(4)):
        hook = attributes_of(payload, 4).get(_CHAIN_HOOK) if payload[0] in _FAMILIES else None
        if hook is not None and attributes_of(hook, 0).get(_HOOK_NUMBER) == _FORWARD:
            return True
    return False
