"""Drops in other people's forward chains, in listings as `nft --json list ruleset` gives them (libnftables-json(5))."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.runtime.network.foreign_rules import find_drops
from podlite.runtime.network.legacy_rules import parse_save
from podlite.runtime.network.remedies import Remedy

Item = dict[str, Any]
CIDRS = ["10.85.0.0/16", "fd85::/64"]
COUNTER: Item = {"counter": {"packets": 0, "bytes": 0}}


def chain(where: str, hook: str = "", policy: str = "accept") -> Item:
    family, table, name = where.split()
    item: Item = {"family": family, "table": table, "name": name}
    if hook:
        item |= {"type": "filter", "hook": hook, "prio": 0, "policy": policy}
    return {"chain": item}


def rule(where: str, *statements: Item) -> Item:
    family, table, name = where.split()
    return {"rule": {"family": family, "table": table, "chain": name, "expr": list(statements)}}


def match(left: Item, right: Any, op: str = "==") -> Item:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str, right: Any, op: str = "==") -> Item:
    return match({"meta": {"key": key}}, right, op)


def payload(protocol: str, field: str, right: Any, op: str = "==") -> Item:
    return match({"payload": {"protocol": protocol, "field": field}}, right, op)


def prefix(address: str, length: int) -> Item:
    return {"prefix": {"addr": address, "len": length}}


def jump(target: str) -> Item:
    return {"jump": {"target": target}}


ACCEPT: Item = {"accept": None}
DROP: Item = {"drop": None}
FORWARD = "ip filter FORWARD"
DOCKER = [
    chain(FORWARD, "forward", "drop"),
    chain("ip filter DOCKER-USER"),
    rule("ip filter DOCKER-USER", COUNTER, {"return": None}),
    rule(FORWARD, COUNTER, jump("DOCKER-USER")),
    rule(FORWARD, meta("oifname", "docker0"), {"xt": {"type": "match", "name": "conntrack"}}, COUNTER, ACCEPT),
    rule(FORWARD, meta("iifname", "docker0"), meta("oifname", "docker0", "!="), COUNTER, ACCEPT),
]
LABELS = ("from pods to elsewhere", "between pods", "from elsewhere to host ports")


def drops(*items: Item) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.chain, each.stops) for each in find_drops({"nftables": list(items)}, CIDRS)]


def test_nothing_there_nothing_found() -> None:
    assert drops() == []
    assert drops(chain(FORWARD, "forward"), chain("ip filter INPUT", "input"), chain("ip f o", "output", "drop")) == []


def test_what_stops_pods_from_this_host_is_found_and_left_to_its_owner() -> None:
    (found,) = find_drops({"nftables": [chain("ip filter INPUT", "input", "drop")]}, CIDRS)
    assert (found.hook, found.stops) == ("input", ("from pods to this host",))
    assert found.remedy == Remedy(advice=["iptables -I INPUT -s 10.85.0.0/16 -j ACCEPT"])


def test_dockers_policy_is_found_and_its_users_chain_named() -> None:
    (found,) = find_drops({"nftables": DOCKER}, CIDRS)
    assert (found.family, found.table, found.chain, found.stops) == ("ip", "filter", "FORWARD", LABELS)
    assert found.because == "its policy is drop"
    assert found.remedy.advice == [
        "iptables -I DOCKER-USER -s 10.85.0.0/16 -j ACCEPT",
        "iptables -I DOCKER-USER -d 10.85.0.0/16 -j ACCEPT",
    ]
    assert "ip filter FORWARD" in str(found) and found.remedy.advice[0] in str(found)


def test_the_suggested_rules_would_help() -> None:
    helped = [
        *DOCKER,
        chain("ip filter DOCKER-USER"),
    ]
    accepts = [
        rule("ip filter DOCKER-USER", payload("ip", field, prefix("10.85.0.0", 16)), COUNTER, ACCEPT)
        for field in ("saddr", "daddr")
    ]
    assert drops(*helped[:2], *accepts, *helped[2:]) == []


def test_plain_iptables_and_its_ipv6() -> None:
    items = [chain(FORWARD, "forward", "drop"), chain("ip6 filter FORWARD", "forward", "drop")]
    found = find_drops({"nftables": items}, CIDRS)
    assert [each.remedy.advice for each in found] == [
        [f"iptables -I FORWARD {flag} 10.85.0.0/16 -j ACCEPT" for flag in ("-s", "-d")],
        [f"ip6tables -I FORWARD {flag} fd85::/64 -j ACCEPT" for flag in ("-s", "-d")],
    ]


def test_a_family_without_pods_is_no_concern() -> None:
    listing = {"nftables": [chain("ip6 filter FORWARD", "forward", "drop")]}
    assert find_drops(listing, ["10.85.0.0/16"]) == []


def test_ufw_is_recognised_by_its_chains() -> None:
    items = [
        chain(FORWARD, "forward", "drop"),
        chain("ip filter ufw-before-forward"),
        rule("ip filter ufw-before-forward", {"xt": None}, COUNTER, ACCEPT),
        rule(FORWARD, COUNTER, jump("ufw-before-forward")),
    ]
    (found,) = find_drops({"nftables": items}, ["10.85.0.0/16"])
    assert found.remedy.advice == ["ufw route allow from 10.85.0.0/16", "ufw route allow to 10.85.0.0/16"]


def test_firewalld_accepts_translated_connections_and_rejects_the_rest() -> None:
    where = "inet firewalld filter_FORWARD"
    items = [
        chain(where, "forward"),
        rule(where, match({"ct": {"key": "state"}}, {"set": ["established", "related"]}, "in"), ACCEPT),
        rule(where, match({"ct": {"key": "status"}}, "dnat", "in"), ACCEPT),
        rule(where, meta("iifname", "lo"), ACCEPT),
        rule(where, match({"ct": {"key": "state"}}, ["invalid"], "in"), DROP),
        rule(where, jump("filter_FORWARD_POLICIES")),
        rule(where, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}),
        chain("inet firewalld filter_FORWARD_POLICIES"),
        rule("inet firewalld filter_FORWARD_POLICIES", meta("iifname", "eth0"), jump("filter_FWD_public")),
    ]
    (found,) = find_drops({"nftables": items}, CIDRS)
    assert found.stops == LABELS[:2]
    assert found.because == "a rule of chain filter_FORWARD says reject"
    assert found.remedy.advice == [
        "firewall-cmd --permanent --zone=trusted --add-source=10.85.0.0/16",
        "firewall-cmd --permanent --zone=trusted --add-source=fd85::/64",
        "firewall-cmd --reload",
    ]


def test_a_table_of_somebodys_own_gets_an_nft_rule() -> None:
    (found,) = find_drops({"nftables": [chain("inet fw fwd", "forward", "drop")]}, CIDRS)
    assert found.remedy.advice == [
        "nft insert rule inet fw fwd iifgroup 28780 accept",
        "nft insert rule inet fw fwd oifgroup 28780 accept",
    ]


W = "inet fw fwd"


@pytest.mark.parametrize(
    "statements",
    [
        (ACCEPT,),
        (meta("iifgroup", 28780), ACCEPT),
        (meta("iifname", "pl*"), ACCEPT),
        (meta("iifname", {"set": ["pl*", "lo"]}), ACCEPT),
        (
            payload("ip", "saddr", {"set": [prefix("10.0.0.0", 8)]}),
            {"xt": {"type": "match", "name": "comment"}},
            ACCEPT,
        ),
        (payload("ip", "saddr", prefix("192.0.2.0", 24), "!="), ACCEPT),
        (match({"ct": {"key": "state"}}, "new"), ACCEPT),
        ({"jump": {"target": "nested"}},),
        ({"goto": {"target": "nested"}},),
    ],
)
def test_rules_that_accept_pods(statements: tuple[Item, ...]) -> None:
    items = [chain(W, "forward", "drop"), chain("inet fw nested"), rule("inet fw nested", ACCEPT), rule(W, *statements)]
    found = find_drops({"nftables": items}, ["10.85.0.0/16"])
    assert not any("from pods to elsewhere" in each.stops for each in found)


@pytest.mark.parametrize(
    "statements",
    [
        (DROP,),
        ({"reject": None},),
        ({"xt": {"type": "target", "name": "REJECT"}},),
        (meta("iifname", "pl*"), DROP),
        (payload("ip", "saddr", prefix("10.85.0.0", 16)), COUNTER, DROP),
        (meta("iifname", "eth0", "!="), DROP),
    ],
)
def test_rules_that_drop_pods(statements: tuple[Item, ...]) -> None:
    found = find_drops({"nftables": [chain(W, "forward"), rule(W, *statements)]}, ["10.85.0.0/16"])
    assert "from pods to elsewhere" in found[0].stops


@pytest.mark.parametrize(
    "statements",
    [
        ({"xt": None}, DROP),
        (match({"ct": {"key": "mark"}}, 7), DROP),
        (payload("ip", "saddr", "@blocked"), DROP),
        (payload("ip6", "saddr", prefix("::", 0)), DROP),
        (meta("iifname", "eth0"), DROP),
        (payload("ip", "daddr", prefix("192.0.2.0", 24)), DROP),
        ({"return": None}, DROP),
        (jump("loop"),),
    ],
)
def test_rules_that_need_not_concern_pods(statements: tuple[Item, ...]) -> None:
    items = [chain(W, "forward"), chain("inet fw loop"), rule("inet fw loop", jump("loop")), rule(W, *statements)]
    assert find_drops({"nftables": items}, ["10.85.0.0/16"]) == []


def test_our_own_table_is_not_foreign() -> None:
    assert drops(chain("inet podlite guard", "forward", "drop")) == []


# iptables-save(8) of a docker before nftables, with what a person may have added.
LEGACY = """# Generated by iptables-save v1.8.9 on Thu Nov 26 12:00:00 2026
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -m comment --comment "let the lab through" -j RETURN
COMMIT
"""


def test_iptables_legacy_is_read_from_what_it_saves() -> None:
    (found,) = find_drops({"nftables": parse_save("ip", LEGACY)}, CIDRS)
    assert (found.table, found.chain, found.stops) == ("iptables-legacy", "FORWARD", LABELS)
    assert found.remedy.advice[0] == "iptables-legacy -I DOCKER-USER -s 10.85.0.0/16 -j ACCEPT"


@pytest.mark.parametrize(
    ("line", "open_"),
    [
        ("-A FORWARD -s 10.85.0.0/16 -j ACCEPT", True),
        ("-A FORWARD -s 10.0.0.0/8 -m comment --comment x -j ACCEPT", True),
        ("-A FORWARD -i pl+ -j ACCEPT", True),
        ("-A FORWARD ! -i eth0 -j ACCEPT", True),
        ("-A FORWARD -j LOG --log-prefix x", False),
        ("-A FORWARD -s 10.85.0.0/16 -p tcp -m tcp --dport 80 -j ACCEPT", False),
        ("-A FORWARD ! -s 10.85.0.0/16 -j ACCEPT", False),
        ("-A FORWARD -s 10.85.0.7/32 -j ACCEPT", False),
        ("-A FORWARD -g DOCKER-USER", False),
    ],
)
def test_rules_of_iptables_legacy(line: str, open_: bool) -> None:
    text = LEGACY.replace("-A FORWARD -j DOCKER-USER", line)
    found = find_drops({"nftables": parse_save("ip", text)}, ["10.85.0.0/16"])
    assert open_ == (not any("from pods to elsewhere" in each.stops for each in found))
