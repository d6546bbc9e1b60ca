"""Pod addresses: ranges, reservations, turns."""

from __future__ import annotations

import os
import threading
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.runtime.network.addresses import Addresses, Subnet, parse_address

A, B = "a" * 64, "b" * 64


@pytest.fixture
def addresses(tmp_path: Path):
    found = Addresses(str(tmp_path / "network"))
    yield found
    found.close()


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10.85.0.0/16", "10.85.0.2", "10.85.255.254"),
        ("192.0.2.0/24", "192.0.2.2", "192.0.2.254"),
        ("192.0.2.8/29", "192.0.2.10", "192.0.2.14"),
        ("192.0.2.8/30", "192.0.2.9", "192.0.2.10"),
        ("192.0.2.8/31", "192.0.2.8", "192.0.2.9"),  # RFC 3021
        ("192.0.2.8/32", "192.0.2.8", "192.0.2.8"),
        ("fd85::/64", "fd85::2", "fd85::ffff:ffff:ffff:ffff"),
        ("fd85::4/126", "fd85::6", "fd85::7"),
    ],
)
def test_range(text: str, first: str, last: str) -> None:
    subnet = Subnet(text)
    assert subnet.address(subnet.first) == first
    assert subnet.address(subnet.last) == last
    assert subnet.count == int(ip_address(last)) - int(ip_address(first)) + 1


def test_ipv6_gateway_is_no_pod_address() -> None:
    subnet = Subnet("fd85::/64")
    assert ip_address(subnet.gateway) == ip_address("fd85::1")
    assert subnet.offset(subnet.gateway) is None
    assert Subnet("10.85.0.0/16").gateway == b""


@pytest.mark.parametrize("text", ["", "10.85.0.0", "10.85.0.0/33", "10.85.0/16", "x/16", "fd85::/129", "10.85.0.0/-1"])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a range of pod addresses"):
        Subnet(text)


def test_bits_behind_the_prefix_are_refused_with_the_range_meant() -> None:
    with pytest.raises(InvalidArgumentError, match=r"would be 10\.85\.0\.0/16"):
        Subnet("10.85.3.0/16")


@pytest.mark.parametrize("text", ["fd85::/127", "fd85::1/128"])
def test_ipv6_range_without_room_for_gateway_and_pod(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no room"):
        Subnet(text)


@given(st.integers(8, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**24))
def test_offsets_and_addresses_are_inverse(length: int, base: int, step: int) -> None:
    network = ip_network((base, length), strict=False)
    subnet = Subnet(str(network))
    offset = subnet.first + step % subnet.count
    address = ip_address(subnet.address(offset))
    assert address in network
    assert subnet.offset(address.packed) == offset
    if length <= 30:
        assert address not in (network.network_address, network.broadcast_address)


def test_addresses_of_other_ranges_have_no_offset() -> None:
    subnet = Subnet("10.85.0.0/16")
    for text in ("10.84.255.255", "10.86.0.0", "10.85.0.0", "10.85.255.255", "fd85::2"):
        assert subnet.offset(parse_address(text) or b"") is None
    assert subnet.offset(b"") is None


def test_the_same_place_in_both_families(addresses: Addresses) -> None:
    subnets = [Subnet("10.85.0.0/16"), Subnet("fd85::/64")]
    assert addresses.choose(subnets) == ["10.85.0.2", "fd85::2"]
    assert addresses.choose(subnets) == ["10.85.0.3", "fd85::3"]


def test_choosing_reserves_nothing_and_still_never_repeats(addresses: Addresses) -> None:
    subnets = [Subnet("10.85.0.0/24")]
    chosen = [addresses.choose(subnets)[0] for _ in range(253)]
    assert len(set(chosen)) == 253
    assert addresses.reserved() == {}
    assert addresses.choose(subnets) == [chosen[0]]


def test_a_released_address_is_the_last_to_be_used_again(addresses: Addresses) -> None:
    subnets = [Subnet("192.0.2.0/28")]
    seen = []
    for _ in range(13):
        (address,) = addresses.choose(subnets)
        addresses.reserve(address, A)
        addresses.release(address, A)
        seen.append(address)
    assert len(set(seen)) == 13


def test_another_process_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    one, two = Addresses(str(tmp_path)), Addresses(str(tmp_path))
    subnets = [Subnet("10.85.0.0/16")]
    assert [one.choose(subnets), two.choose(subnets), one.choose(subnets)] == [
        ["10.85.0.2"],
        ["10.85.0.3"],
        ["10.85.0.4"],
    ]
    one.close()
    two.close()


def test_reserved_addresses_are_passed_over(addresses: Addresses) -> None:
    subnets = [Subnet("10.85.0.0/16"), Subnet("fd85::/64")]
    for number in (2, 3, 5):
        addresses.reserve(f"10.85.0.{number}", A)
    addresses.reserve("fd85::4", A)
    assert addresses.choose(subnets) == ["10.85.0.4", "fd85::5"]


@pytest.mark.parametrize("free", [0, 1, 40, 126, 252])
def test_the_one_free_address_is_found(addresses: Addresses, free: int) -> None:
    subnet = Subnet("10.85.0.0/24")
    for number in range(subnet.count):
        if number != free:
            addresses.reserve(subnet.address(subnet.first + number), A)
    assert addresses.choose([subnet]) == [subnet.address(subnet.first + free)]


@pytest.mark.parametrize(("text", "count"), [("192.0.2.1/32", 1), ("192.0.2.0/30", 2), ("10.85.0.0/24", 253)])
def test_exhaustion_is_a_sentence(addresses: Addresses, text: str, count: int) -> None:
    subnet = Subnet(text)
    for _ in range(count):
        addresses.reserve(addresses.choose([subnet])[0], A)
    with pytest.raises(NetworkSetupError, match=f"All {count} pod addresses of {text} are in use") as caught:
        addresses.choose([subnet])
    assert "--pod-cidr" in caught.value.hint


def test_a_reservation_names_its_owner_and_belongs_to_it(addresses: Addresses) -> None:
    addresses.reserve("10.85.0.2", A)
    addresses.reserve("10.85.0.2", A)
    with pytest.raises(NetworkSetupError, match=f"reserved by sandbox {A[:13]}"):
        addresses.reserve("10.85.0.2", B)
    assert addresses.owner("10.85.0.2") == A
    assert addresses.reserved() == {"10.85.0.2": A}
    addresses.release("10.85.0.2", B)
    assert addresses.owner("10.85.0.2") == A
    assert addresses.any_reserved()


def test_release_is_idempotent(addresses: Addresses) -> None:
    addresses.release("10.85.0.2", A)
    addresses.reserve("10.85.0.2", A)
    addresses.release("10.85.0.2", A)
    addresses.release("10.85.0.2", A)
    assert not addresses.any_reserved()
    assert addresses.owner("10.85.0.2") == ""


def test_a_fresh_run_directory_has_no_reservations(addresses: Addresses) -> None:
    assert not addresses.any_reserved()
    assert addresses.reserved() == {}


def test_the_directories_come_back(addresses: Addresses, tmp_path: Path) -> None:
    subnets = [Subnet("10.85.0.0/16")]
    addresses.reserve(addresses.choose(subnets)[0], A)
    os.unlink(tmp_path / "network/addresses/10.85.0.2")
    os.rmdir(tmp_path / "network/addresses")
    (address,) = addresses.choose(subnets)
    addresses.reserve(address, A)
    assert addresses.reserved() == {address: A}


def test_eight_threads_with_objects_of_their_own_get_different_addresses(tmp_path: Path) -> None:
    got: list[str] = []
    failed: list[BaseException] = []

    def work(owner: str) -> None:
        own = Addresses(str(tmp_path))
        try:
            for _ in range(30):
                chosen = own.choose([Subnet("10.85.0.0/24"), Subnet("fd85::/64")])
                for address in chosen:
                    own.reserve(address, owner)
                got.extend(chosen)
        except BaseException as error:
            failed.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(str(number) * 64,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(got)) == 480
