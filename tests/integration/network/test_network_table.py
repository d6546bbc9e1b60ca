"""The nftables table and the forwarding switches: made once, versioned, healed, taken back with the last pod."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from network_hosts import CIDRS, HOST4, OUTSIDE4, OUTSIDE6, Host, ask, refused, serving, sh, wait_for

from podlite.cri.types import PortMapping
from podlite.linux.netlink import NETLINK_NETFILTER, NetlinkSocket
from podlite.linux.nftables import Batch, get_table, table_comment
from podlite.runtime.network import ruleset
from podlite.runtime.network.builtin import BuiltinNetwork
from podlite.runtime.network.foreign_rules import find_drops, read_ruleset

# What the table is to be, in nft's own language. Compared by what the kernel says it has, for both.
REFERENCE = """
table inet podlite {
    comment "podlite 1"
    map hostports4_ip { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    map hostports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map hostports6_ip { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
    map hostports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    set hairpin4 { type ipv4_addr . ipv4_addr; }
    set hairpin6 { type ipv6_addr . ipv6_addr; }
    chain guard {
        type filter hook prerouting priority raw; policy accept;
        iifgroup 28780 ip daddr 127.0.0.0/8 drop
        iifgroup 28780 meta nfproto ipv6 fib saddr . iif oif missing drop
    }
    chain hostports {
        dnat ip to ip daddr . meta l4proto . th dport map @hostports4_ip
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostports6_ip
        dnat ip to meta l4proto . th dport map @hostports4
        dnat ip6 to meta l4proto . th dport map @hostports6
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump hostports
    }
    chain output {
        type nat hook output priority -100; policy accept;
        fib daddr type local jump hostports
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        iifgroup 28780 oifgroup != 28780 masquerade
        oifgroup 28780 ip saddr 127.0.0.0/8 snat ip to 169.254.1.1
        oifgroup 28780 ip saddr . ip daddr @hairpin4 snat ip to 169.254.1.1
        oifgroup 28780 ip6 saddr . ip6 daddr @hairpin6 masquerade
    }
}
"""


def without_handles(listing: Any) -> Any:
    if isinstance(listing, dict):
        return {key: without_handles(value) for key, value in listing.items() if key not in ("handle", "metainfo")}
    return [without_handles(each) for each in listing] if isinstance(listing, list) else listing


def test_the_table_is_what_nft_makes_of_the_same_rules(lonely: Host) -> None:
    subprocess.run(["nft", "-f", "-"], input=REFERENCE, text=True, check=True)
    text, listing = sh("nft list ruleset"), json.loads(sh("nft -j list ruleset"))
    bytecode = sh("nft --debug=netlink list ruleset")
    sh("nft flush ruleset")
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        assert netlink.submit(*ruleset.build_table()) == []
    assert sh("nft list ruleset") == text
    assert without_handles(json.loads(sh("nft -j list ruleset"))) == without_handles(listing)

    def instructions(said: str) -> list[str]:
        return [line.strip() for line in said.splitlines() if line.strip().startswith("[")]

    assert instructions(sh("nft --debug=netlink list ruleset")) == instructions(bytecode)


def test_elements_are_what_nft_makes_of_the_same(lonely: Host) -> None:
    lonely.pod(
        PortMapping(host_port=8080, container_port=80), PortMapping(host_ip="127.0.0.1", host_port=81, container_port=8)
    )
    ours = sh("nft --debug=netlink list ruleset")
    sh("nft flush ruleset")
    (record,) = [pod.record for pod in lonely.pods]
    comment = f'comment "default/pod-{record["sandbox_id"][:4]}"'
    subprocess.run(["nft", "-f", "-"], input=REFERENCE, text=True, check=True)
    sh(
        f"""
        nft add element inet podlite hostports4 '{{ tcp . 8080 {comment} : 10.85.0.2 . 80 }}'
        nft add element inet podlite hostports6 '{{ tcp . 8080 {comment} : fd85::2 . 80 }}'
        nft add element inet podlite hostports4_ip '{{ 127.0.0.1 . tcp . 81 {comment} : 10.85.0.2 . 8 }}'
        nft add element inet podlite hairpin4 '{{ 10.85.0.2 . 10.85.0.2 {comment} }}'
        nft add element inet podlite hairpin6 '{{ fd85::2 . fd85::2 {comment} }}'
        """
    )

    def elements(said: str) -> list[str]:
        return [line for line in said.splitlines() if line.lstrip().startswith("element ")]

    assert elements(sh("nft --debug=netlink list ruleset")) == elements(ours)


def test_a_host_with_nowhere_to_go_has_no_table(lonely: Host) -> None:
    before = lonely.state()
    pod = lonely.pod()
    assert sh("nft list ruleset") == ""
    pod.remove()
    assert lonely.network.release_unused()
    lonely.wait_for_state(before)


def test_a_host_port_brings_the_table_even_there(lonely: Host) -> None:
    before = lonely.state()
    plain = lonely.pod()
    published = lonely.pod(PortMapping(host_port=8080, container_port=80))
    assert "table inet podlite" in sh("nft list ruleset")
    published.remove()
    plain.remove()
    assert lonely.network.release_unused()
    lonely.wait_for_state(before)


def test_everything_goes_with_the_last_pod_and_not_before(host: Host) -> None:
    before = host.state()
    one, two = host.pod(PortMapping(host_port=8080, container_port=80)), host.pod()
    one.remove()
    assert not host.network.release_unused()
    assert host.outside is not None
    with serving(host.outside, "outside", "0.0.0.0", 0, socket.SOCK_STREAM) as server:
        assert ask(two.fd, OUTSIDE4, server.port) == f"outside|{HOST4}"
    two.remove()
    assert host.network.release_unused()
    assert host.network.release_unused()
    host.wait_for_state(before)


def test_rules_of_others_are_untouched(host: Host) -> None:
    sh(
        """
        iptables -P FORWARD ACCEPT; iptables -A FORWARD -s 203.0.113.0/24 -j DROP
        iptables -t nat -A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE
        nft 'table inet other { set s { type ipv4_addr; elements = { 192.0.2.77 }; };
             chain c { type filter hook forward priority 5; policy accept; ip saddr @s drop; }; }'
        """
    )
    before = host.state()
    pod = host.pod(PortMapping(host_port=8080, container_port=80))
    with_us = sh("nft list ruleset 2>/dev/null")
    assert with_us.startswith(before["rules"].rstrip("\n"))
    pod.remove()
    assert host.network.release_unused()
    host.wait_for_state(before)


def test_an_older_table_is_replaced_and_host_ports_survive(host: Host) -> None:
    pod = host.pod(PortMapping(host_port=8080, container_port=80))
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        old = Batch(ruleset.TABLE)
        old.delete_table()
        old.create_table("podlite 0")
        old.create_chain("ancient", "filter", 2, 0)
        assert netlink.submit(*old.encode()) == []
        assert table_comment(netlink.request(get_table(ruleset.TABLE)) or b"") == "podlite 0"
    # Another process comes, of today's version.
    other = BuiltinNetwork(host.run_dir, ["10.85.0.0/16", "fd85::/64"])
    other.prepare()
    other.close()
    listing = sh("nft list ruleset")
    assert "ancient" not in listing and f'comment "{ruleset.COMMENT}"' in listing
    with serving(pod.fd, "pod", "0.0.0.0", 80, socket.SOCK_STREAM):
        assert ask(host.own, "127.0.0.1", 8080) == "pod|169.254.1.1"


def test_check_heals_a_table_that_somebody_flushed(host: Host) -> None:
    pod = host.pod(PortMapping(host_port=8080, container_port=80))
    assert host.network.check() == []
    sh("nft flush ruleset")
    assert host.network.check() == []
    assert host.outside is not None
    with (
        serving(host.outside, "outside", "::", 0, socket.SOCK_STREAM) as server,
        serving(pod.fd, "pod", "0.0.0.0", 80, socket.SOCK_STREAM),
    ):
        assert ask(pod.fd, OUTSIDE6, server.port).startswith("outside|")
        assert ask(host.own, "127.0.0.1", 8080) == "pod|169.254.1.1"


def test_check_notices_an_uplink_that_came_later(lonely: Host) -> None:
    first = lonely.pod()
    assert sh("nft list ruleset") == ""
    sh(
        """
        ip link add up9 type veth peer name out9; ip link set up9 up; ip link set out9 up
        ip address add 198.51.100.1/24 dev up9; ip route add default via 198.51.100.2
        """
    )
    assert lonely.network.check() == []
    lonely.pod()
    assert "masquerade" in sh("nft list ruleset")
    assert sh("cat /proc/sys/net/ipv4/conf/up9/forwarding").strip() == "1"
    first.remove()


def test_without_nftables_pods_have_a_network_and_the_user_a_warning(host: Host) -> None:
    # A process that may not speak to nf_tables: its socket is refused by the kernel itself.
    script = f"""
import sys
sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import ctypes, os, struct
from network_hosts import Host
from podlite import log
from podlite.cri.errors import NetworkSetupError
from podlite.cri.types import PortMapping
# seccomp: socket(AF_NETLINK, *, NETLINK_NETFILTER) is EPROTONOSUPPORT, everything else is allowed (x86_64, aarch64).
number = {{"x86_64": 41, "aarch64": 198}}[os.uname().machine]
bpf = [(0x20, 0, 0, 0), (0x15, 0, 5, number), (0x20, 0, 0, 16), (0x15, 0, 3, 16),
       (0x20, 0, 0, 32), (0x15, 0, 1, 12), (0x06, 0, 0, 0x00050000 | 93), (0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *each) for each in bpf)
buffer = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", len(bpf), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
said = []
log.warning = lambda event, **facts: said.append(event)
host = Host({host.run_dir!r})
one, two = host.pod(), host.pod()
assert len(said) == 1 and "no masquerade" in said[0], said
try:
    host.pod(PortMapping(host_port=8080, container_port=80))
except NetworkSetupError as error:
    assert "host ports need nftables" in str(error), error
else:
    raise AssertionError("published without nftables")
print(one.sh(f"ping -c 1 -W 5 {{two.ip4}}"))
one.remove(); two.remove()
assert host.network.release_unused()
host.close()
"""
    before = host.state()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 received" in done.stdout
    assert sh("nft list ruleset") == ""
    host.wait_for_state(before)


# --- forwarding -----------------------------------------------------------------------------


def forwarding(*paths: str) -> list[str]:
    return [sh(f"cat /proc/sys/net/{path}").strip() for path in paths]


def test_forwarding_is_changed_where_it_is_needed_and_restored(host: Host) -> None:
    sh("ip link add idle0 type veth peer name idle1; echo 0 > /proc/sys/net/ipv6/conf/up0/accept_ra")
    sh("echo 1 > /proc/sys/net/ipv6/conf/idle0/accept_ra; echo 1 > /proc/sys/net/ipv6/conf/idle0/forwarding")
    before = host.state()
    pod = host.pod()
    assert forwarding("ipv4/ip_forward", "ipv4/conf/up0/forwarding", "ipv4/conf/idle0/forwarding") == ["0", "1", "0"]
    assert forwarding("ipv6/conf/all/forwarding", "ipv6/conf/up0/accept_ra") == ["1", "0"]
    recorded = json.loads(Path(f"{host.run_dir}/network/sysctls.json").read_text())
    assert recorded["ipv4"] == {"up0": "0"}
    assert recorded["ipv6"]["up0"] == {"forwarding": "0", "accept_ra": "0"}
    assert recorded["ipv6"]["idle0"] == {"forwarding": "1", "accept_ra": "1"}
    pod.remove()
    host.network.release_unused()
    host.wait_for_state(before)


def test_router_advertisements_go_on_being_accepted(host: Host) -> None:
    sh("echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra")
    before = host.state()
    pod = host.pod()
    assert forwarding("ipv6/conf/up0/accept_ra", "ipv6/conf/up0/forwarding") == ["2", "1"]
    pod.remove()
    host.network.release_unused()
    host.wait_for_state(before)
    assert forwarding("ipv6/conf/up0/accept_ra") == ["1"]


def test_a_host_that_forwards_is_left_as_it_is(host: Host) -> None:
    sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    before = host.state()
    pod = host.pod()
    assert not os.path.exists(f"{host.run_dir}/network/sysctls.json")
    pod.remove()
    host.network.release_unused()
    host.wait_for_state(before)


def test_an_uplink_stays_on_if_somebody_else_needs_it_by_then(host: Host) -> None:
    pod = host.pod()
    sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
    pod.remove()
    host.network.release_unused()
    assert forwarding("ipv4/ip_forward", "ipv4/conf/up0/forwarding") == ["1", "1"]


@pytest.mark.parametrize(("accept", "forward"), [("1", "0"), ("2", "1")])
def test_a_host_end_that_would_take_advertisements_is_told_not_to(lonely: Host, accept: str, forward: str) -> None:
    """No table and no forwarding stands between them here: IPv4 pods on a host that has IPv6."""
    lonely.close()
    sh(f"echo {accept} > /proc/sys/net/ipv6/conf/default/accept_ra")
    sh(f"echo {forward} > /proc/sys/net/ipv6/conf/default/forwarding")
    host = Host(lonely.run_dir, ("10.85.0.0/16",))
    lonely.own, lonely.network, lonely.pods = host.own, host.network, host.pods
    pod = lonely.pod()
    assert forwarding(f"ipv6/conf/{pod.record['host_interface']}/accept_ra") == ["0"]
    assert pod.status.ips == ["10.85.0.2"]


# --- others' drops --------------------------------------------------------------------------


def test_the_named_rule_does_help(host: Host) -> None:
    """docker's way of dropping, and what find_drops tells its owner to do about it."""
    sh(
        """
        iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -A FORWARD -j DOCKER-USER
        iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
        """
    )
    pod, other = host.pod(PortMapping(host_port=8080, container_port=80)), host.pod()
    found = find_drops(read_ruleset(), CIDRS)
    assert [(each.family, each.chain, len(each.stops)) for each in found] == [
        ("ip", "FORWARD", 3),
        ("ip6", "FORWARD", 3),
    ]
    assert host.outside is not None
    with (
        serving(host.outside, "outside", "0.0.0.0", 0, socket.SOCK_STREAM) as out4,
        serving(host.outside, "outside", "::", 0, socket.SOCK_STREAM) as out6,
        serving(pod.fd, "pod", "0.0.0.0", 80, socket.SOCK_STREAM),
    ):
        assert refused(pod.fd, OUTSIDE4, out4.port)
        assert refused(other.fd, pod.ip4, 80)
        assert refused(host.outside, HOST4, 8080)
        for each in found:
            for command in each.remedy.advice:
                sh(command)
        assert ask(pod.fd, OUTSIDE4, out4.port).startswith("outside|")
        assert ask(pod.fd, OUTSIDE6, out6.port).startswith("outside|")
        assert ask(other.fd, pod.ip4, 80).startswith("pod|")
        assert ask(host.outside, HOST4, 8080).startswith("pod|")
    assert find_drops(read_ruleset(), CIDRS) == []


def test_diagnose_names_what_is_in_the_way(host: Host) -> None:
    host.pod()
    assert host.network.diagnose() == []
    sh("nft 'table inet fw { chain out { type filter hook forward priority 0; policy drop; }; }'")
    sh("echo 0 > /proc/sys/net/ipv4/conf/up0/forwarding; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding")
    drop, four, six = host.network.diagnose()
    assert "inet fw out" in drop and "nft insert rule inet fw out iifgroup 28780 accept" in drop
    assert "net.ipv4.conf.up0.forwarding is 0" in four
    assert "net.ipv6.conf.all.forwarding is 0" in six


def test_many_processes_begin_and_end_at_once(host: Host) -> None:
    """Each makes a pod, uses it, removes it, and takes back what is shared if it is the last: over and over."""
    before = host.state()
    script = f"""
import sys
sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
from network_hosts import *
from podlite.cri.types import PortMapping
host = Host({host.run_dir!r})
host.outside = -1
port = int(sys.argv[1])
for _ in range(12):
    pod = host.pod(PortMapping(host_port=port, container_port=80))
    with serving(pod.fd, "pod", "0.0.0.0", 80, socket.SOCK_STREAM):
        assert ask(host.own, "127.0.0.1", port) == "pod|169.254.1.1"
    pod.remove()
    host.network.release_unused()
host.outside = None
host.close()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(19000 + number)], stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in processes:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said
    wait_for(host.network.release_unused, "nothing left that is shared")
    host.wait_for_state(before)
