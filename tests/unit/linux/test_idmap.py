from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.linux.idmap import (
    POD_LENGTH,
    IdRange,
    allocate,
    check,
    format_map,
    parse,
    parse_subids,
    to_container,
    to_host,
)

TWO = (IdRange(0, 1000, 1), IdRange(1, 100_000, 65535))


def test_kernel_form() -> None:
    text = "         0       1000          1\n         1     100000      65535\n"
    assert parse(text) == TWO
    assert parse(format_map(TWO)) == TWO
    assert format_map(TWO) == "0 1000 1\n1 100000 65535\n"
    with pytest.raises(ValueError, match="unpack"):
        parse("0 1\n")


def test_translation() -> None:
    assert to_host(TWO, 0) == 1000
    assert to_host(TWO, 65535) == 165534
    assert to_host(TWO, 65536) is None
    assert to_container(TWO, 100_000) == 1
    assert to_container(TWO, 0) is None


@given(st.integers(0, 70_000))
def test_translation_back(container_id: int) -> None:
    host_id = to_host(TWO, container_id)
    assert host_id is None or to_container(TWO, host_id) == container_id


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([], "at least one"),
        ([IdRange(0, 0, 0)], "is no range"),
        ([IdRange(-1, 0, 1)], "is no range"),
        ([IdRange(0, 0xFFFFFFFF, 1)], "beyond the last id"),
        ([IdRange(0, 0, 10), IdRange(9, 100, 10)], "overlap at id 9 inside"),
        ([IdRange(0, 100, 10), IdRange(10, 109, 10)], "overlap at id 109 outside"),
        ([IdRange(each, each, 1) for each in range(341)], "340"),
    ],
)
def test_what_the_kernel_refuses(ranges: list[IdRange], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(ranges)


def test_what_the_kernel_takes() -> None:
    check(TWO)
    check([IdRange(0, 0, 0xFFFFFFFF)])


def test_subids() -> None:
    text = "# comment\nalice:100000:65536\n1000:300000:65536\nbob:1:1\nalice:x:1\nalice:5\n"
    assert parse_subids(text, "alice", 1000) == [(100_000, 65536), (300_000, 65536)]
    assert parse_subids(text, "carol", 7) == []


POOL = [(65536, 65536 * 4)]


def test_allocation_takes_the_lowest_free_range() -> None:
    assert allocate([], POOL) == 65536
    assert allocate([(65536, POD_LENGTH)], POOL) == 131072
    assert allocate([(131072, POD_LENGTH)], POOL) == 65536
    assert allocate([(131071, 2)], POOL) == 196608
    assert allocate([(0, 1 << 31)], POOL) is None


def test_allocation_is_aligned_and_never_the_hosts_own() -> None:
    assert allocate([], [(0, 200_000)]) == 65536
    assert allocate([], [(100_000, 65536)]) is None
    assert allocate([], [(100_000, 200_000)]) == 131072
    assert allocate([], [(100_000, 65536), (300_000, 200_000)]) == 327680


@given(st.lists(st.tuples(st.integers(0, 20 * 65536), st.integers(1, 200_000)), max_size=12))
def test_allocation_never_overlaps(used: list[tuple[int, int]]) -> None:
    start = allocate(used, [(65536, 16 * 65536)])
    if start is None:
        candidates = [65536 * number for number in range(1, 17)]
        assert all(any(first < each + POD_LENGTH and first + n > each for first, n in used) for each in candidates)
    else:
        assert start % 65536 == 0
        assert 65536 <= start <= 16 * 65536
        assert all(first + n <= start or first >= start + POD_LENGTH for first, n in used)
