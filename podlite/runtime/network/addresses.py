"""The pods' addresses: which there are, whose each is, which one is next. Shared by all podlite processes.

    <run-dir>/network/addresses/10.85.0.2 → <sandbox id>     a reservation: a symbolic link to the owner's name
    <run-dir>/network/cursor                                 the place in the range that was given out last

A symbolic link comes into being whole, with its content, or not at all, and never over another one: one system
call (2 µs, half of what an O_EXCL file with a line in it takes) that a crash cannot cut in half. Addresses are
given out in turn, so that one that has become free is the last to be used again. The cursor moves under a lock, so
that two processes never choose the same address; the choice makes nothing, and is recorded before it is reserved.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError

# How many addresses are tried one by one before the whole directory is read.
_PROBES = 32


class Subnet:
    """A range of pod addresses: `family` is 4 or 6; places in it are offsets from its first address.

    `first` to `last` are the places for pods. Left out are the network's own and the broadcast address (IPv4
    prefixes up to 30), the place that people take for a gateway (up to 29), and of an IPv6 prefix the first two:
    the subnet-router anycast address and the gateway.
    """

    __slots__ = ("base", "family", "first", "last", "prefix_length", "text")

    def __init__(self, text: str) -> None:
        """Raises InvalidArgumentError for what is no CIDR, or one with no room for a pod."""
        address, _, length = text.partition("/")
        packed = parse_address(address)
        if packed is None or not length.isdecimal() or int(length) > len(packed) * 8:
            raise InvalidArgumentError(
                f"{text!r} is not a range of pod addresses.", hint="--pod-cidr takes a CIDR, such as 10.85.0.0/16"
            )
        self.family = 4 if len(packed) == 4 else 6
        self.prefix_length = int(length)
        host_bits = len(packed) * 8 - self.prefix_length
        size = 1 << host_bits
        self.base = int.from_bytes(packed, "big")
        if self.base % size:
            network = socket.inet_ntop(_AF[self.family], (self.base - self.base % size).to_bytes(len(packed), "big"))
            raise InvalidArgumentError(
                f"{text} has bits set behind its prefix; the range would be {network}/{length}.",
                hint="--pod-cidr takes the first address of the range",
            )
        self.text = text
        if self.family == 6:
            if host_bits < 2:
                raise InvalidArgumentError(f"{text} has no room for a gateway and a pod.", hint="take a /126 or larger")
            self.first, self.last = 2, size - 1
        else:
            self.first = 2 if host_bits > 2 else 1 if host_bits > 1 else 0
            self.last = size - 2 if host_bits > 1 else size - 1

    @property
    def gateway(self) -> bytes:
        """The IPv6 gateway of the range's pods: its first address but one. Nothing for IPv4 (constants.GATEWAY4)."""
        return self.packed(1) if self.family == 6 else b""

    @property
    def count(self) -> int:
        """How many pods have room."""
        return self.last - self.first + 1

    def packed(self, offset: int) -> bytes:
        return (self.base + offset).to_bytes(4 if self.family == 4 else 16, "big")

    def address(self, offset: int) -> str:
        return socket.inet_ntop(_AF[self.family], self.packed(offset))

    def offset(self, packed: bytes) -> int | None:
        """The place of an address, or None if it is not one for a pod of this range."""
        offset = int.from_bytes(packed, "big") - self.base
        same_family = len(packed) == (4 if self.family == 4 else 16)
        return offset if same_family and self.first <= offset <= self.last else None


_AF = {4: socket.AF_INET, 6: socket.AF_INET6}


def parse_address(text: str) -> bytes | None:
    """The packed form, 4 or 16 bytes, of an IP address; None for anything else."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return None


def address_text(packed: bytes) -> str:
    return socket.inet_ntop(_AF[4 if len(packed) == 4 else 6], packed)


class Addresses:
    """The reservations in one run directory. Safe between threads and between processes. All functions block."""

    def __init__(self, directory: str) -> None:
        """`directory` is <run-dir>/network."""
        self._directory = f"{directory}/addresses"
        self._cursor_path = f"{directory}/cursor"
        self._cursor_fd = -1
        self._cursor_lock = threading.Lock()

    def close(self) -> None:
        """Idempotent."""
        with self._cursor_lock:
            if self._cursor_fd >= 0:
                os.close(self._cursor_fd)
                self._cursor_fd = -1

    def choose(self, subnets: list[Subnet]) -> list[str]:
        """The next free address of each subnet, the same place in all of them where that is free; reserves nothing.

        Two calls, in whichever processes, choose different addresses as long as a whole round of the range lies
        between them. Raises NetworkSetupError when a range is used up, OSError.
        """
        with self._cursor_lock:
            if self._cursor_fd < 0:
                self._cursor_fd = self._open_cursor()
            fcntl.flock(self._cursor_fd, fcntl.LOCK_EX)
            try:
                stored = os.pread(self._cursor_fd, 8, 0)
                wanted = 1 + (struct.unpack("=Q", stored)[0] if len(stored) == 8 else subnets[0].first - 1)
                chosen = []
                for position, subnet in enumerate(subnets):
                    offset = self._next_free(subnet, wanted)
                    if position == 0:
                        wanted = offset
                    chosen.append(subnet.address(offset))
                os.pwrite(self._cursor_fd, struct.pack("=Q", wanted & 0xFFFFFFFFFFFFFFFF), 0)
                return chosen
            finally:
                fcntl.flock(self._cursor_fd, fcntl.LOCK_UN)

    def reserve(self, address: str, owner: str) -> None:
        """Makes `address` the owner's; nothing happens if it is already. Raises NetworkSetupError if it is
        another's, OSError."""
        path = f"{self._directory}/{address}"
        try:
            os.symlink(owner, path)
        except FileNotFoundError:
            self._make_directories()
            os.symlink(owner, path)
        except FileExistsError:
            holder = self.owner(address)
            if holder != owner:
                raise NetworkSetupError(
                    f"The address {address} is reserved by sandbox {holder[:13] or 'unknown'}.",
                    hint="try again; if the range is small, give podlite a larger one with --pod-cidr",
                ) from None

    def owner(self, address: str) -> str:
        """The sandbox that has reserved the address, or an empty string."""
        try:
            return os.readlink(f"{self._directory}/{address}")
        except FileNotFoundError:
            return ""

    def release(self, address: str, owner: str) -> None:
        """Idempotent; another's reservation is left alone. Raises OSError."""
        if self.owner(address) == owner:
            try:
                os.unlink(f"{self._directory}/{address}")
            except FileNotFoundError:
                pass

    def reserved(self) -> dict[str, str]:
        """All reservations: address → sandbox."""
        try:
            return {name: self.owner(name) for name in os.listdir(self._directory)}
        except FileNotFoundError:
            return {}

    def any_reserved(self) -> bool:
        try:
            with os.scandir(self._directory) as entries:
                return next(entries, None) is not None
        except FileNotFoundError:
            return False

    def _next_free(self, subnet: Subnet, wanted: int) -> int:
        """The first free place from `wanted` on, round the range."""
        start = (wanted - subnet.first) % subnet.count
        for step in range(min(_PROBES, subnet.count)):
            offset = subnet.first + (start + step) % subnet.count
            if not os.path.lexists(f"{self._directory}/{subnet.address(offset)}"):
                return offset
        taken = set(os.listdir(self._directory))
        for step in range(_PROBES, min(subnet.count, _PROBES + len(taken) + 1)):
            offset = subnet.first + (start + step) % subnet.count
            if subnet.address(offset) not in taken:
                return offset
        raise NetworkSetupError(
            f"All {subnet.count} pod addresses of {subnet.text} are in use.",
            hint="end some pods, run `podlite prune`, or give podlite a larger range with --pod-cidr",
        )

    def _open_cursor(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._cursor_path, flags, 0o600)
        except FileNotFoundError:
            self._make_directories()
            return os.open(self._cursor_path, flags, 0o600)

    def _make_directories(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
