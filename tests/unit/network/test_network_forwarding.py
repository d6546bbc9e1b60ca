"""The forwarding switches: what is written, what is recorded, what is put back (kernel: ip-sysctl.rst)."""

from __future__ import annotations

from podlite.runtime.network.forwarding import Before6, Recorded, plan_ipv4, plan_ipv6, plan_restore

OFF_RA, ON, OFF = Before6("0", "1"), Before6("1", "1"), Before6("0", "0")


def test_a_host_that_forwards_already_is_left_alone() -> None:
    assert plan_ipv4("1", {"eth0": "1", "eth1": "0"}) == ({}, [])
    assert plan_ipv6("1", {"eth0": OFF_RA}) == ({}, [])


def test_without_ipv6_nothing_is_done_about_it() -> None:
    assert plan_ipv6("", {}) == ({}, [])


def test_ipv4_is_switched_on_where_uplinks_have_it_off() -> None:
    before, writes = plan_ipv4("0", {"eth0": "0", "wlan0": "1", "gone": ""})
    assert before == {"eth0": "0"}
    assert writes == [("ipv4/conf/eth0/forwarding", "1")]


def test_ipv6_keeps_accepting_router_advertisements_and_says_so_first() -> None:
    devices = {"default": OFF_RA, "lo": OFF_RA, "eth0": OFF_RA, "eth1": OFF, "eth2": Before6("0", "2"), "br0": ON}
    before, writes = plan_ipv6("0", devices)
    assert before == devices
    assert writes == [("ipv6/conf/eth0/accept_ra", "2"), ("ipv6/conf/all/forwarding", "1")]


def test_restoring_is_the_reverse() -> None:
    recorded = Recorded(ipv4={"eth0": "0"}, ipv6={"default": OFF_RA, "eth0": OFF_RA, "br0": ON})
    now = {
        "ipv4/conf/all/forwarding": "0",
        "ipv4/conf/eth0/forwarding": "1",
        "ipv6/conf/all/forwarding": "1",
        "ipv6/conf/eth0/forwarding": "1",
        "ipv6/conf/eth0/accept_ra": "2",
        "ipv6/conf/br0/forwarding": "1",
        "ipv6/conf/br0/accept_ra": "1",
        "ipv6/conf/default/forwarding": "1",
        "ipv6/conf/default/accept_ra": "1",
    }
    assert plan_restore(recorded, now) == [
        ("ipv4/conf/eth0/forwarding", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/br0/forwarding", "1"),  # all/forwarding takes it away from every device
        ("ipv6/conf/eth0/accept_ra", "1"),
    ]


def test_what_somebody_else_changed_since_stays() -> None:
    recorded = Recorded(ipv4={"eth0": "0"}, ipv6={"eth0": OFF_RA})
    taken_over = {
        "ipv4/conf/all/forwarding": "1",
        "ipv4/conf/eth0/forwarding": "1",
        "ipv6/conf/all/forwarding": "0",
        "ipv6/conf/eth0/forwarding": "0",
        "ipv6/conf/eth0/accept_ra": "0",
    }
    assert plan_restore(recorded, taken_over) == []


def test_devices_that_are_gone_are_passed_over() -> None:
    recorded = Recorded(ipv4={"usb0": "0"}, ipv6={"usb0": Before6("1", "1")})
    now = {"ipv4/conf/all/forwarding": "0", "ipv6/conf/all/forwarding": "1"}
    assert plan_restore(recorded, now) == [("ipv6/conf/all/forwarding", "0")]


def test_nothing_recorded_nothing_restored() -> None:
    assert plan_restore(Recorded(), {"ipv4/conf/all/forwarding": "0", "ipv6/conf/all/forwarding": "1"}) == []
