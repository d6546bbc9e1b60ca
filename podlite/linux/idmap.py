"""User and group id maps of user namespaces: the arithmetic, and a namespace that has them.

Sources: user_namespaces(7), subuid(5), KEP-127 (user namespaces in pods).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from podlite.linux.userns import userns_fd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a pod gets (KEP-127): as many ids as 16 bits can name, beginning at a multiple of that.
POD_LENGTH = 65536
_MAX_ID = 0xFFFFFFFF  # (uid_t) -1 is no id
# UID_GID_MAP_MAX_EXTENTS
_MAX_RANGES = 340


class IdRange(NamedTuple):
    """`length` ids from `container_id` on inside are those from `host_id` on outside."""

    container_id: int
    host_id: int
    length: int


def parse(text: str) -> tuple[IdRange, ...]:
    """The ranges of a /proc/PID/uid_map or gid_map. Raises ValueError for another form."""
    result = []
    for line in text.splitlines():
        container_id, host_id, length = (int(field) for field in line.split())
        result.append(IdRange(container_id, host_id, length))
    return tuple(result)


def format_map(ranges: Iterable[IdRange]) -> str:
    """What is written into a uid_map or gid_map."""
    return "".join(f"{each.container_id} {each.host_id} {each.length}\n" for each in ranges)


def check(ranges: Sequence[IdRange]) -> None:
    """Raises ValueError, with a sentence, for ranges that the kernel would refuse: overlapping, empty, too many."""
    if not ranges:
        raise ValueError("an id map needs at least one range")
    if len(ranges) > _MAX_RANGES:
        raise ValueError(f"an id map can have {_MAX_RANGES} ranges, not {len(ranges)}")
    for each in ranges:
        if each.length <= 0 or min(each.container_id, each.host_id) < 0:
            raise ValueError(f"{each} is no range of ids")
        if max(each.container_id, each.host_id) + each.length > _MAX_ID:
            raise ValueError(f"{each} goes beyond the last id, {_MAX_ID - 1}")
    for side, starts in (
        ("inside", [(each.container_id, each.length) for each in ranges]),
        ("outside", [(each.host_id, each.length) for each in ranges]),
    ):
        end = 0
        for start, length in sorted(starts):
            if start < end:
                raise ValueError(f"two ranges of the id map overlap at id {start} {side} the namespace")
            end = start + length


def to_host(ranges: Iterable[IdRange], container_id: int) -> int | None:
    """The id outside; None for one that is not mapped."""
    for each in ranges:
        if each.container_id <= container_id < each.container_id + each.length:
            return each.host_id + container_id - each.container_id
    return None


def to_container(ranges: Iterable[IdRange], host_id: int) -> int | None:
    """The id inside; None for one that is not mapped (which appears as the overflow id, 65534)."""
    for each in ranges:
        if each.host_id <= host_id < each.host_id + each.length:
            return each.container_id + host_id - each.host_id
    return None


def parse_subids(text: str, user: str, uid: int) -> list[tuple[int, int]]:
    """The (first id, count) that /etc/subuid or /etc/subgid gives to a user, by name or number.

    Lines that are no entries are left out, as newuidmap(1) does.
    """
    result = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in (user, str(uid)) and fields[1].isdigit() and fields[2].isdigit():
            result.append((int(fields[1]), int(fields[2])))
    return result


def allocate(used: Iterable[tuple[int, int]], pool: Iterable[tuple[int, int]], length: int = POD_LENGTH) -> int | None:
    """The first id of a free range of `length` ids that begins at a multiple of `length`; None if there is none.

    `used` and `pool` are (first id, count). The lowest one is taken, so that the same input has the same result;
    it never begins at 0, where the host's own users are. Pure: the caller holds a lock from reading `used` on.
    """
    taken = sorted((start, start + count) for start, count in used)
    for start, count in sorted(pool):
        candidate = max(-(-start // length), 1) * length
        for first, end in taken:
            if first < candidate + length and end > candidate:
                candidate = -(-end // length) * length
        if candidate + length <= min(start + count, _MAX_ID):
            return candidate
    return None


def userns_fd_for(uid_ranges: Sequence[IdRange], gid_ranges: Sequence[IdRange]) -> int:
    """An fd of a new user namespace with these maps, made through a short-lived child; the caller closes it.

    Raises ValueError for maps that cannot be, OSError as `userns.userns_fd`. Forks: call it where there is one thread.
    """
    check(uid_ranges)
    check(gid_ranges)
    return userns_fd(format_map(uid_ranges), format_map(gid_ranges))
