"""The netlink socket against the kernel, as far as that needs no privilege; the loopback device is on every machine."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading

import pytest

from podlite.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_REQUEST,
    RTM_GETLINK,
    NetlinkError,
    NetlinkSocket,
    SocketPool,
    attribute,
    attributes_of,
    find_link,
    links,
    message,
    nested,
    routes,
)


def get_link(index: int, sequence: int, flags: int = 0) -> bytes:
    return message(RTM_GETLINK, NLM_F_REQUEST | flags, sequence, struct.pack("=BxHiII", 0, 0, index, 0, 0))


def test_lo_is_found_by_name_and_by_index() -> None:
    with NetlinkSocket() as netlink:
        for link in (find_link(netlink, "lo"), find_link(netlink, index=1)):
            assert link is not None
            assert (link.name, link.index) == ("lo", socket.if_nametoindex("lo"))
            assert link.mtu >= 1280


def test_what_is_not_there_is_none() -> None:
    with NetlinkSocket() as netlink:
        assert find_link(netlink, "no-such-device") is None
        assert find_link(netlink, index=0x7FFFFFF0) is None


def test_all_links() -> None:
    with NetlinkSocket() as netlink:
        assert {(link.index, link.name) for link in links(netlink)} == set(socket.if_nameindex())


def test_the_route_to_lo_itself() -> None:
    with NetlinkSocket() as netlink:
        found = [str(route) for route in routes(netlink, socket.AF_INET) if route.interface == 1]
    # Whoever has brought lo up has this, in table local (ip-route(8)).
    assert not found or "127.0.0.0/8" in found


def test_one_acknowledgement_ends_a_batch_and_errors_come_in_order() -> None:
    batch = get_link(0x7FFFFFF0, 1) + get_link(1, 2) + get_link(0x7FFFFFF1, 3) + get_link(1, 4, NLM_F_ACK)
    with NetlinkSocket() as netlink:
        errors = netlink.submit(batch, 4)
        assert [(error.index, error.errno) for error in errors] == [(1, errno.ENODEV), (3, errno.ENODEV)]
        assert netlink.submit(get_link(1, 1, NLM_F_ACK), 1) == []


def test_an_error_of_the_last_message_ends_a_batch_too() -> None:
    with NetlinkSocket() as netlink:
        (error,) = netlink.submit(get_link(0x7FFFFFF0, 1, NLM_F_ACK), 1)
        assert (error.index, error.errno, error.strerror) == (1, errno.ENODEV, os.strerror(errno.ENODEV))


def test_a_refused_dump_is_an_error() -> None:
    with NetlinkSocket() as netlink, pytest.raises(NetlinkError):
        list(netlink.dump(0x7F00, struct.pack("=I", 0)))


def test_a_protocol_that_is_not_there() -> None:
    with pytest.raises(OSError) as caught:
        NetlinkSocket(31)
    assert caught.value.errno == errno.EPROTONOSUPPORT


def test_attributes_are_padded_and_read_back() -> None:
    data = attribute(1, b"abc") + nested(2, attribute(3, b"x")) + attribute(4, b"")
    assert len(data) % 4 == 0
    found = attributes_of(b"head" + data, 4)
    assert found[1] == b"abc" and found[4] == b""
    assert attributes_of(found[2], 0) == {3: b"x"}


def test_half_an_attribute_is_not_read() -> None:
    assert attributes_of(struct.pack("=HH", 2, 1) + b"\0" * 8, 0) == {}


def test_a_pool_keeps_sockets_and_drops_those_that_failed() -> None:
    pool = SocketPool(NETLINK_ROUTE)
    with pool.lease() as first:
        number = first.fileno()
    with pool.lease() as again:
        assert again is first
        with pool.lease() as other:
            assert other is not first
    with pytest.raises(NetlinkError), pool.lease() as again:
        raise NetlinkError(errno.EPERM, "", 1)
    with pytest.raises(TimeoutError), pool.lease() as failed:
        raise TimeoutError
    assert failed.fileno() == -1
    pool.close()
    pool.close()
    with pool.lease() as fresh:
        assert fresh.fileno() >= 0 and fresh is not first
    pool.close()
    assert number >= 0


def test_sixteen_threads_share_a_pool() -> None:
    pool = SocketPool(NETLINK_ROUTE)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(100):
            with pool.lease() as netlink:
                link = find_link(netlink, "lo")
                if link is None or link.index != 1:
                    wrong.append(link)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    assert wrong == []
