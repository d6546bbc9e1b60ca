"""The rules of iptables-legacy, which nft does not list, in the form in which nft lists others.

The old interface has tables of its own in the kernel; what is in them counts as much as what is in nftables'. Some
distributions' docker and ufw still use it. Read by iptables-legacy-save(8), only if such a table is there.
"""

from __future__ import annotations

from typing import Any

from podlite.linux import affinity

# What it is called in a listing: nft has a table `filter` too, of iptables-nft.
TABLE = "iptables-legacy"

_FAMILIES = (
    ("ip", "/proc/thread-self/net/ip_tables_names", "iptables-legacy-save"),
    ("ip6", "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save"),
)
_MATCHES = {
    "-i": ("meta", "iifname"),
    "-o": ("meta", "oifname"),
    "-s": ("payload", "saddr"),
    "-d": ("payload", "daddr"),
}
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return"}
# Targets that let a packet go on to the next rule.
_PASSING = frozenset({"LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CT", "NOTRACK", "TRACE"})


def has_legacy_rules() -> bool:
    """Whether there is a filter table of either family in the calling thread's network namespace. Two small files."""
    return any(_has_filter(names) for _, names, _ in _FAMILIES)


def read_legacy_rules() -> list[dict[str, Any]]:
    """The filter tables of the calling thread's network namespace, as items of a listing; none where there are none.
    Blocking."""
    import subprocess

    found: list[dict[str, Any]] = []
    for family, names, command in _FAMILIES:
        if not _has_filter(names):
            continue
        try:
            with affinity.elsewhere():
                done = subprocess.run(
                    [command, "-t", "filter"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
                )
        except (OSError, subprocess.TimeoutExpired):
            continue  # nobody here who could have made them
        if done.returncode == 0:
            found += parse_save(family, done.stdout.decode(errors="replace"))
    return found


def _has_filter(names: str) -> bool:
    try:
        with open(names, encoding="utf-8") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def parse_save(family: str, text: str) -> list[dict[str, Any]]:
    """The items of a listing, from what iptables-save(8) prints for the table filter; pure. A match that is not one by
    device or address becomes one that cannot be read, as nft's own of iptables' matches are."""
    import shlex

    hooks = {"INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}
    items: list[dict[str, Any]] = []
    for line in text.splitlines():
        if line.startswith(":"):
            name, policy, *_ = line[1:].split()
            chain: dict[str, Any] = {"family": family, "table": TABLE, "name": name}
            if name in hooks:
                chain |= {"type": "filter", "hook": hooks[name], "prio": 0, "policy": policy.lower()}
            items.append({"chain": chain})
        elif line.startswith("-A "):
            words = shlex.split(line)
            rule = {"family": family, "table": TABLE, "chain": words[1], "expr": _statements(family, words[2:])}
            items.append({"rule": rule})
    return items


def _statements(family: str, words: list[str]) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = []
    position = 0
    negated = False
    while position < len(words):
        word = words[position]
        value = words[position + 1] if position + 1 < len(words) else ""
        position += 1
        if word == "!":
            negated = True
            continue
        if word in _MATCHES:
            statements.append(_match(family, *_MATCHES[word], value, negated=negated))
            position += 1
        elif word in ("-j", "-g"):
            statements += _target(value, "goto" if word == "-g" else "jump")
            break  # what follows are the target's own options
        elif word == "-m" and value == "comment":
            position += 3  # comment --comment TEXT: matches always
        elif word.startswith("-"):
            statements.append({"xt": {"type": "match", "name": "legacy"}})
        negated = False
    return statements


def _match(family: str, kind: str, field: str, value: str, *, negated: bool) -> dict[str, Any]:
    operator = "!=" if negated else "=="
    if kind == "meta":
        # iptables(8): a name that ends with + means every name that begins so.
        name = f"{value[:-1]}*" if value.endswith("+") else value
        return {"match": {"op": operator, "left": {"meta": {"key": field}}, "right": name}}
    address, _, length = value.partition("/")
    bits = 128 if family == "ip6" else 32
    right = {"prefix": {"addr": address, "len": int(length) if length.isdecimal() else bits}}
    return {"match": {"op": operator, "left": {"payload": {"protocol": family, "field": field}}, "right": right}}


def _target(name: str, word: str) -> list[dict[str, Any]]:
    if name in _VERDICTS:
        return [{_VERDICTS[name]: None}]
    return [] if name in _PASSING else [{word: {"target": name}}]
