"""What would let pods through a chain of somebody else's: how its owner would say it for good, and how podlite does it
for as long as there are pods (`--firewall=integrate`). Pure.

What is for good is for a person to type: it survives a reload and a reboot. What podlite adds itself is never written
into anybody's configuration: it goes with the last pod, or with the next boot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.runtime.network.constants import DEVICE_GROUP
from podlite.runtime.network.legacy_rules import TABLE as LEGACY

if TYPE_CHECKING:
    from collections.abc import Collection

# (family, table, name)
Chain = tuple[str, str, str]

# By which rules of ours are known for ours.
COMMENT = "podlite"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of podlite's in somebody else's firewall, as commands: `there` succeeds if it is there."""

    there: list[str]
    add: list[str]
    remove: list[str]


class NftRule(msgspec.Struct, frozen=True, kw_only=True):
    """The same in a table of somebody's own, where a rule is known by its comment and removed by its handle."""

    chain: Chain
    match: list[str]


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """`advice` are commands for the owner; `rules` what podlite would add, empty where it should not."""

    advice: list[str]
    rules: list[Rule] = []
    nft_rules: list[NftRule] = []


def remedy(chain: Chain, hook: str, chains: Collection[Chain], cidrs: list[str]) -> Remedy:
    """What would help pods of these ranges through a base chain. `chains` are all that there are.

    On the way to this host podlite adds nothing by itself: which of its services pods may use is for its owner to say.
    """
    family, table, name = chain
    mine = [cidr for cidr in cidrs if family == "inet" or (":" in cidr) == (family == "ip6")]
    if table == "firewalld":
        made = _firewalld(mine)
    elif family in ("ip", "ip6") and table in ("filter", LEGACY) and name in ("FORWARD", "INPUT"):
        made = _iptables(chain, chains, mine)
    else:
        ways = ("iifgroup", "oifgroup") if hook == "forward" else ("iifgroup",)
        made = Remedy(
            advice=[f"nft insert rule {family} {table} {name} {way} {DEVICE_GROUP} accept" for way in ways],
            nft_rules=[NftRule(chain=chain, match=[way, str(DEVICE_GROUP)]) for way in ways],
        )
    return made if hook == "forward" else Remedy(advice=made.advice)


def _firewalld(cidrs: list[str]) -> Remedy:
    """Its zone `trusted` accepts everything from its sources, to this host too: it has no other that forwards."""
    command = ["firewall-cmd", "--zone=trusted"]
    return Remedy(
        advice=[
            *(f"firewall-cmd --permanent --zone=trusted --add-source={cidr}" for cidr in cidrs),
            "firewall-cmd --reload",
        ],
        rules=[
            Rule(
                there=[*command, f"--query-source={cidr}"],
                add=[*command, f"--add-source={cidr}"],
                remove=[*command, f"--remove-source={cidr}"],
            )
            for cidr in cidrs
        ],
    )


def _iptables(chain: Chain, chains: Collection[Chain], cidrs: list[str]) -> Remedy:
    family, table, name = chain
    command = ("iptables" if family == "ip" else "ip6tables") + ("-legacy" if table == LEGACY else "")
    flags = ("-s", "-d") if name == "FORWARD" else ("-s",)
    # Docker leaves this chain to the user, and asks it first.
    docker = name == "FORWARD" and (family, table, "DOCKER-USER") in chains
    where = "DOCKER-USER" if docker else name
    if any(each[2].startswith("ufw") for each in chains if each[:2] == (family, table)):
        words = ("route allow from", "route allow to") if name == "FORWARD" else ("allow from",)
        advice = [f"ufw {each} {cidr}" for cidr in cidrs for each in words]
    else:
        advice = [f"{command} -I {where} {flag} {cidr} -j ACCEPT" for cidr in cidrs for flag in flags]
    return Remedy(advice=advice, rules=[_iptables_rule(command, where, flag, cidr) for cidr in cidrs for flag in flags])


def _iptables_rule(command: str, chain: str, flag: str, cidr: str) -> Rule:
    rule: list[Any] = [chain, flag, cidr, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]
    return Rule(
        there=[command, "--wait", "-C", *rule],
        add=[command, "--wait", "-I", *rule],
        remove=[command, "--wait", "-D", *rule],
    )
