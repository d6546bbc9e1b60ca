from __future__ import annotations

import pytest

from podlite.linux import capabilities
from podlite.linux.facts import DEGRADED, MISSING, OK, Fact, can_run, capability_facts, kernel_fact


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.18.44-fc", OK),
        ("5.14.0-427.el9.x86_64", OK),
        ("5.13.19", DEGRADED),
        ("5.12.0", DEGRADED),
        ("5.10.0-26-amd64", MISSING),
        ("4.19.0", MISSING),
        ("mine", DEGRADED),
    ],
)
def test_kernel(release: str, state: str) -> None:
    fact = kernel_fact(release)
    assert fact.state == state
    assert bool(fact.consequence) == (state != OK)


def test_all_capabilities() -> None:
    assert capability_facts(capabilities.every()) == [Fact("capabilities", OK, "all that pods need are held", "")]


def test_missing_capabilities() -> None:
    held = capabilities.every()
    for name in ("SYS_RESOURCE", "SYS_ADMIN", "AUDIT_WRITE"):
        held &= ~capabilities.bit(name)
    assert [(fact.name, fact.state) for fact in capability_facts(held)] == [
        ("capability SYS_ADMIN", MISSING),
        ("capability SYS_RESOURCE", DEGRADED),
        ("default capabilities", DEGRADED),
    ]


def test_can_run() -> None:
    assert can_run([Fact("a", OK, "", ""), Fact("b", DEGRADED, "", "x")])
    assert not can_run([Fact("a", OK, "", ""), Fact("b", MISSING, "", "x")])
