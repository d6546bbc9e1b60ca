"""`--firewall=integrate`: the rules that let pods through somebody else's firewall, added while there are pods.

    <run-dir>/network/firewall.json     what may have been added; written before it is, removed after it is gone

Changed under the network's lock. Taken back with the last pod, by whichever process that is, asked for or not.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.cri.errors import NetworkSetupError
from podlite.linux import affinity
from podlite.linux.fs import read_file, replace_file
from podlite.runtime.network.foreign_rules import find_drops, read_ruleset
from podlite.runtime.network.remedies import COMMENT, NftRule, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

# firewall-cmd asks a daemon, and iptables waits for its lock.
SECONDS = 30.0
# firewall-cmd(1): the daemon does not run, so what it had been told is gone.
_NOT_RUNNING = 252


class Added(msgspec.Struct, kw_only=True):
    """Everything that may be there."""

    version: int = 1
    rules: list[Rule] = []
    nft_rules: list[NftRule] = []


class Integration:
    """The additions of one run directory. All functions block, and are called with the network's lock held."""

    def __init__(self, directory: str) -> None:
        """`directory` is <run-dir>/network."""
        self._path = f"{directory}/firewall.json"

    def ensure(self, cidrs: Sequence[str]) -> None:
        """Adds what lets pods of these ranges through, where something stops them. Idempotent.

        Raises NetworkSetupError, naming what failed; OSError.
        """
        drops = [each for each in find_drops(read_ruleset(), cidrs) if each.hook == "forward"]
        if not drops:
            return
        added = self._load()
        added.rules += [rule for each in drops for rule in each.remedy.rules if rule not in added.rules]
        added.nft_rules += [rule for each in drops for rule in each.remedy.nft_rules if rule not in added.nft_rules]
        replace_file(self._path, msgspec.json.encode(added), scratch=f"{self._path}.new", durable=False)
        for rule in added.rules:
            if _run(rule.there).returncode:
                _must(rule.add)
        for nft_rule in added.nft_rules:
            if not _handles(nft_rule):
                _must(["nft", "insert", "rule", *nft_rule.chain, *nft_rule.match, "accept", "comment", f'"{COMMENT}"'])
        left = [each for each in find_drops(read_ruleset(), cidrs) if each.hook == "forward"]
        if left:
            raise NetworkSetupError(f"The firewall still stops pods with podlite's rules in it: {left[0]}.")

    def restore(self) -> None:
        """Takes everything back. Idempotent; what is gone already is success. Raises NetworkSetupError, OSError."""
        if not os.path.exists(self._path):
            return
        added = self._load()
        for rule in added.rules:
            # More than once if two machines' worth of podlites had the same idea; never without end.
            for _ in range(8):
                if _run(rule.there).returncode:
                    break
                _must(rule.remove, tolerated=(_NOT_RUNNING,))
        for nft_rule in added.nft_rules:
            for handle in _handles(nft_rule):
                _must(["nft", "delete", "rule", *nft_rule.chain, "handle", str(handle)])
        os.unlink(self._path)

    def _load(self) -> Added:
        try:
            return msgspec.json.decode(read_file(self._path), type=Added)
        except FileNotFoundError:
            return Added()


def _handles(rule: NftRule) -> list[int]:
    """Those of our rules of this kind in the chain; none if there is no such chain."""
    done = _run(["nft", "--json", "--handle", "list", "chain", *rule.chain])
    if done.returncode:
        return []
    found = []
    for item in msgspec.json.decode(done.stdout).get("nftables", []):
        each: dict[str, Any] = item.get("rule") or {}
        if each.get("comment") == COMMENT and rule.match[0] in str(each.get("expr")):
            found.append(int(each["handle"]))
    return found


def _must(command: list[str], tolerated: tuple[int, ...] = ()) -> None:
    done = _run(command)
    if done.returncode and done.returncode not in tolerated:
        said = done.stderr.decode(errors="replace").strip()
        raise NetworkSetupError(f"The firewall of this host cannot be changed: `{' '.join(command)}` says {said!r}.")


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        with affinity.elsewhere():
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS, cwd="/"
            )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise NetworkSetupError(f"The firewall of this host cannot be changed: {error}.") from error
