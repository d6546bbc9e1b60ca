"""A sandbox's /etc/resolv.conf. What it is to say has been decided on the kubelet side; here it is written down.

Sources: resolv.conf(5); CRI's DNSConfig (without one the pod gets the host's file, as from the other runtimes).
"""

from __future__ import annotations

from podlite.cri.types import DNSConfig
from podlite.linux.fs import read_file

HOST_FILE = "/etc/resolv.conf"
# systemd-resolved listens on a loopback address, which a pod cannot reach, and keeps the real servers in here.
STUB_UPSTREAM = "/run/systemd/resolve/resolv.conf"
_MAX_FILE = 10 << 20  # as the kubelet


def resolv_conf(config: DNSConfig | None, *, host_file: str = HOST_FILE, stub_upstream: str = STUB_UPSTREAM) -> str:
    """The file's content; for None the host's own, or what is behind its stub resolver. A host without one has an
    empty one. Blocking. Raises OSError if a file is there and cannot be read."""
    if config is not None:
        return render(config)
    text = _read(host_file)
    if only_loopback(text):
        upstream = _read(stub_upstream)
        if name_servers(upstream):
            return upstream
    return text


def render(config: DNSConfig) -> str:
    """One search line, one line per name server, one line of options; those that are empty are left out."""
    lines = []
    if config.searches:
        lines.append(f"search {' '.join(config.searches)}")
    lines += [f"nameserver {server}" for server in config.servers]
    if config.options:
        lines.append(f"options {' '.join(config.options)}")
    return "".join(f"{line}\n" for line in lines)


def name_servers(text: str) -> list[str]:
    """The name servers that a resolv.conf names."""
    return [fields[1] for line in text.splitlines() if len(fields := line.split()) > 1 and fields[0] == "nameserver"]


def only_loopback(text: str) -> bool:
    """Whether a resolv.conf names servers, all of which a pod would look for in vain: on its own loopback device."""
    servers = name_servers(text)
    return bool(servers) and all(server == "::1" or server.startswith("127.") for server in servers)


def _read(path: str) -> str:
    try:
        return read_file(path, limit=_MAX_FILE).decode(errors="replace")
    except FileNotFoundError:
        return ""
