"""/etc/resolv.conf of a sandbox (resolv.conf(5))."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlite.cri.types import DNSConfig
from podlite.runtime.network.resolv import only_loopback, resolv_conf

STUB = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
REAL = "nameserver 192.0.2.53\nnameserver fd00::53\nsearch lan\n"


def files(tmp_path: Path, host: str | None, upstream: str | None) -> dict[str, str]:
    for name, text in (("host", host), ("upstream", upstream)):
        if text is not None:
            (tmp_path / name).write_text(text)
    return {"host_file": str(tmp_path / "host"), "stub_upstream": str(tmp_path / "upstream")}


def test_a_configuration_is_written_down() -> None:
    config = DNSConfig(
        servers=["192.0.2.1", "fd00::1"], searches=["a.example", "b.example"], options=["ndots:5", "rotate"]
    )
    assert resolv_conf(config) == (
        "search a.example b.example\nnameserver 192.0.2.1\nnameserver fd00::1\noptions ndots:5 rotate\n"
    )


def test_an_empty_configuration_is_an_empty_file(tmp_path: Path) -> None:
    assert resolv_conf(DNSConfig(), **files(tmp_path, REAL, None)) == ""


@pytest.mark.parametrize(
    ("host", "upstream", "expected"),
    [
        (REAL, None, REAL),
        (STUB, REAL, REAL),
        (STUB, None, STUB),
        (STUB, "# none yet\n", STUB),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", REAL, "nameserver 127.0.0.1\nnameserver 192.0.2.1\n"),
        ("nameserver ::1\n", REAL, REAL),
        ("search lan\n", REAL, "search lan\n"),
        (None, REAL, ""),
    ],
)
def test_without_one_it_is_the_hosts_or_what_is_behind_its_stub(
    tmp_path: Path, host: str | None, upstream: str | None, expected: str
) -> None:
    assert resolv_conf(None, **files(tmp_path, host, upstream)) == expected


def test_comments_and_half_lines_are_no_servers() -> None:
    assert not only_loopback("#nameserver 127.0.0.1\nnameserver\n; nameserver ::1\n")
