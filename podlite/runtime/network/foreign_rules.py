"""Other people's rules in the pods' way: would they drop pods' packets, and which rule of theirs would help?

An accept of ours does not beat a drop of somebody else's: every base chain of the hook has its say. So what stops
pods is found and named, on the way through this host (forward) and to it (input), and the rule that would let them
through is spelled out for the owner of the chain (podlite.runtime.network.remedies). Pure functions over the listing
of `nft --json list ruleset`; it has to be an honest guess, for rules of the old iptables matches are opaque in it.
Such a rule is taken neither for a match nor for none: it decides nothing.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.cri.errors import NetworkSetupError
from podlite.linux import affinity
from podlite.runtime.network.constants import DEVICE_GROUP
from podlite.runtime.network.remedies import Chain, Remedy, remedy
from podlite.runtime.network.ruleset import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

# A jump deeper than the kernel allows (NFT_JUMP_STACK_SIZE) would be a loop in a listing that changed meanwhile.
_MAX_JUMPS = 16

ACCEPT, DROP = "accept", "drop"


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that stops pods' packets: `hook` is forward or input, `stops` says which, `because` by what, `remedy`
    what would help."""

    family: str
    table: str
    chain: str
    hook: str
    stops: tuple[str, ...]
    because: str
    remedy: Remedy

    def __str__(self) -> str:
        stops = " and ".join(self.stops)
        return (
            f"The chain {self.family} {self.table} {self.chain} drops packets {stops} ({self.because}); this would"
            f" let them through: {' && '.join(self.remedy.advice)}"
        )


class _Packet:
    """The first packet of a connection, as far as a rule can ask for it; None is "some value"."""

    def __init__(self, label: str, family: str, facts: dict[tuple[str, str], Any]) -> None:
        self.label = label
        self.family = family
        self.facts = facts


def read_ruleset() -> dict[str, Any]:
    """All rules of the calling thread's network namespace, iptables-legacy's among them. Blocking. Raises
    NetworkSetupError without nft(8), or if it fails."""
    import json
    import subprocess

    from podlite.runtime.network.legacy_rules import read_legacy_rules

    command = ["nft", "--json", "list", "ruleset"]
    try:
        with affinity.elsewhere():
            done = subprocess.run(command, capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise NetworkSetupError(
            f"The firewall rules of this host cannot be listed: {error}.", hint="install the package nftables"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise NetworkSetupError(f"The firewall rules of this host cannot be listed: nft says {said!r}.")
    listing: dict[str, Any] = json.loads(done.stdout)
    listing["nftables"] = [*listing.get("nftables", []), *read_legacy_rules()]
    return listing


def find_drops(listing: dict[str, Any], pod_cidrs: Iterable[str]) -> list[Drop]:
    """What stops pods of these ranges, chain by chain. `listing` is nft's, decoded."""
    rules = _Rules(listing)
    cidrs = list(pod_cidrs)
    found = []
    for (family, table, name), hook in rules.base_chains.items():
        where = str(hook.get("hook"))
        if where not in ("forward", "input") or family not in ("ip", "ip6", "inet") or table == TABLE:
            continue
        stops: dict[str, str] = {}
        for cidr in cidrs:
            kind = "ip6" if ":" in cidr else "ip"
            if family not in (kind, "inet"):
                continue
            for packet in _packets(where, kind, cidr):
                verdict, because = rules.judge((family, table, name), packet)
                if verdict == DROP:
                    stops.setdefault(packet.label, because)
        if stops:
            found.append(
                Drop(
                    family=family,
                    table=table,
                    chain=name,
                    hook=where,
                    stops=tuple(stops),
                    because=next(iter(stops.values())),
                    remedy=remedy((family, table, name), where, rules.chains, cidrs),
                )
            )
    return found


def _packets(hook: str, family: str, cidr: str) -> list[_Packet]:
    network = ipaddress.ip_network(cidr)
    pod = str(network[2] if network.num_addresses > 2 else network[0])
    pod_device, common = "pl00000000", {("ct", "state"): "new", ("meta", "nfproto"): f"ipv{family[2:] or '4'}"}
    from_pod = {("meta", "iifname"): pod_device, ("meta", "iifgroup"): DEVICE_GROUP, (family, "saddr"): pod}
    to_pod = {("meta", "oifname"): pod_device, ("meta", "oifgroup"): DEVICE_GROUP, (family, "daddr"): pod}
    # "": a device or address that is nobody's in particular, the default network's.
    out = {("meta", "oifname"): "", ("meta", "oifgroup"): 0, (family, "daddr"): ""}
    into = {("meta", "iifname"): "", ("meta", "iifgroup"): 0, (family, "saddr"): "", ("ct", "status"): "dnat"}
    if hook == "input":
        return [
            _Packet(
                "from pods to this host", family, {**common, **from_pod, (family, "daddr"): "", ("ct", "status"): ""}
            )
        ]
    return [
        _Packet("from pods to elsewhere", family, {**common, **from_pod, **out, ("ct", "status"): ""}),
        _Packet("between pods", family, {**common, **from_pod, **to_pod, ("ct", "status"): ""}),
        _Packet("from elsewhere to host ports", family, {**common, **to_pod, **into}),
    ]


class _Rules:
    """The chains and rules of a listing."""

    def __init__(self, listing: dict[str, Any]) -> None:
        self.base_chains: dict[Chain, dict[str, Any]] = {}
        self.chains: dict[Chain, list[list[dict[str, Any]]]] = {}
        for item in listing.get("nftables", []):
            if (chain := item.get("chain")) is not None:
                key = (chain["family"], chain["table"], chain["name"])
                self.chains.setdefault(key, [])
                if "hook" in chain:
                    self.base_chains[key] = chain
            elif (rule := item.get("rule")) is not None:
                key = (rule["family"], rule["table"], rule["chain"])
                self.chains.setdefault(key, []).append(rule.get("expr", []))

    def judge(self, chain: Chain, packet: _Packet) -> tuple[str, str]:
        """(accept or drop, because of what) for a packet in a base chain."""
        verdict = self._walk(chain, packet, 0)
        if verdict is not None:
            return verdict
        policy = self.base_chains[chain].get("policy", ACCEPT)
        return policy, f"its policy is {policy}"

    def _walk(self, chain: Chain, packet: _Packet, depth: int) -> tuple[str, str] | None:
        """The verdict of a chain and those it jumps to, or None if it comes to none."""
        if depth > _MAX_JUMPS:
            return None
        for rule in self.chains.get(chain, []):
            certain = True
            for statement in rule:
                matches = _satisfied(statement, packet)
                if matches is False:
                    break
                certain = certain and matches is True
                word = _verdict(statement)
                if word is None:
                    continue
                # Behind a match that cannot be read, the verdict may not be meant for this packet.
                if certain and word == "return":
                    return None
                if certain and word in ("jump", "goto"):
                    inner = self._walk((*chain[:2], statement[word]["target"]), packet, depth + 1)
                    if inner is not None or word == "goto":
                        return inner
                elif certain:
                    return ACCEPT if word == "accept" else DROP, f"a rule of chain {chain[2]} says {word}"
                break
        return None


def _satisfied(statement: dict[str, Any], packet: _Packet) -> bool | None:
    """Whether the packet passes a statement on to the next; None if that cannot be told."""
    if (match := statement.get("match")) is not None:
        return _matches(match, packet)
    if "xt" not in statement:
        return True
    xt = statement["xt"] or {}
    # A match of iptables' own, of which nft shows the name at most. A comment is one that always matches.
    return True if xt.get("type") == "target" or xt.get("name") == "comment" else None


def _verdict(statement: dict[str, Any]) -> str | None:
    """The statement's word if it ends the rule."""
    if (statement.get("xt") or {}).get("name") == "REJECT":
        return "reject"
    return next((word for word in ("accept", "drop", "reject", "return", "jump", "goto") if word in statement), None)


def _matches(match: dict[str, Any], packet: _Packet) -> bool | None:
    """Whether a packet satisfies a match; None if that cannot be told."""
    left = match.get("left")
    if not isinstance(left, dict) or len(left) != 1:
        return None
    kind, what = next(iter(left.items()))
    if not isinstance(what, dict):
        return None
    if kind == "payload":
        protocol = what.get("protocol")
        if protocol in ("ip", "ip6") and protocol != packet.family:
            return False
        key = (str(protocol), str(what.get("field")))
    elif kind in ("meta", "ct"):
        key = (kind, str(what.get("key")))
    else:
        return None
    if key not in packet.facts:
        return None
    found = _equals(packet.facts[key], match.get("right"))
    if found is None:
        return None
    return not found if match.get("op") == "!=" else found


def _equals(fact: Any, right: Any) -> bool | None:
    if isinstance(right, list):
        results = [_equals(fact, each) for each in right]
    elif isinstance(right, dict) and "set" in right:
        return _equals(fact, right["set"])
    elif isinstance(right, dict) and "prefix" in right:
        return _in_range(fact, f"{right['prefix']['addr']}/{right['prefix']['len']}")
    elif isinstance(right, dict) or (isinstance(right, str) and right.startswith("@")):
        return None
    elif isinstance(right, str) and right.endswith("*"):
        results = [isinstance(fact, str) and fact.startswith(right[:-1])]
    elif isinstance(fact, str) and isinstance(right, str) and ("." in right or ":" in right) and fact[:1].isalnum():
        return _in_range(fact, right)
    else:
        results = [fact == right]
    return True if True in results else None if None in results else False


def _in_range(fact: Any, text: str) -> bool | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
        return bool(fact) and ipaddress.ip_address(fact) in network
    except ValueError:
        return bool(fact == text)
