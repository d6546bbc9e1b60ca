"""What the network interfaces of a namespace have carried: /proc/net/dev (proc_pid_net(5))."""

from __future__ import annotations

import msgspec

# Of the calling thread: /proc/net is the process's, whose main thread is in another namespace.
PATH = "/proc/thread-self/net/dev"


class Interface(msgspec.Struct, frozen=True):
    """Counters since the interface was made, as it sees itself."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def interfaces() -> list[Interface]:
    """Those of the calling thread's namespace, without the loopback. Raises OSError."""
    with open(PATH, encoding="utf-8", errors="replace") as file:
        return parse(file.read())


def parse(text: str) -> list[Interface]:
    """Two lines of heading, then `name: ` and eight counters received, eight sent. Pure."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        numbers = [int(each) for each in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            found.append(Interface(name.strip(), *numbers[:4], *numbers[8:12]))
    return found
