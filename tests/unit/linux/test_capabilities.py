"""A container's capability sets; the cases are those of CRI v1's message Capability and of capabilities(7)."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlite.linux import capabilities as caps
from podlite.linux.capabilities import NAMES, Capabilities, bit, for_container, mask, names

ALL = (1 << 41) - 1
# docker's documentation, "Runtime privilege and Linux capabilities": the capabilities that are allowed by default.
DEFAULT = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}


def test_bits_are_those_of_the_kernel_header() -> None:
    path = "/usr/include/linux/capability.h"
    if not os.path.exists(path):
        pytest.skip(f"{path} is not installed (linux-libc-dev)")
    with open(path) as file:
        defined = dict(re.findall(r"#define CAP_(\w+)\s+(\d+)$", file.read(), re.MULTILINE))
    assert {name: str(number) for number, name in enumerate(NAMES) if name in defined} == {
        name: number for name, number in defined.items() if name in NAMES
    }
    assert set(defined) - set(NAMES) <= {"LAST_CAP"}


def test_default_set() -> None:
    assert set(names(caps.DEFAULT)) == DEFAULT
    assert for_container(possible=ALL).bounding == caps.DEFAULT


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["SYS_ADMIN"], ["CHOWN"], DEFAULT - {"CHOWN"} | {"SYS_ADMIN"}),
        (["CAP_SYS_ADMIN", "net_admin"], [], DEFAULT | {"SYS_ADMIN", "NET_ADMIN"}),
        (["ALL"], [], set(NAMES)),
        (["ALL"], ["CHOWN"], set(NAMES) - {"CHOWN"}),
        ([], ["ALL"], set()),
        (["SYS_ADMIN"], ["ALL"], {"SYS_ADMIN"}),
        (["ALL", "SYS_ADMIN"], ["ALL"], {"SYS_ADMIN"}),
        (["KILL"], ["KILL"], DEFAULT - {"KILL"}),
        (["NO_SUCH"], ["NEITHER"], DEFAULT),
    ],
)
def test_add_and_drop(add: list[str], drop: list[str], expected: set[str]) -> None:
    sets = for_container(add, drop, possible=ALL)
    assert set(names(sets.bounding)) == expected
    assert sets == Capabilities(bounding=mask(expected), permitted=mask(expected), effective=mask(expected))


def test_nothing_is_inheritable_unless_it_is_ambient() -> None:
    assert for_container(["ALL"], privileged=True, possible=ALL).inheritable == 0
    sets = for_container(ambient=["NET_ADMIN"], possible=ALL)
    assert sets.inheritable == sets.ambient == bit("NET_ADMIN")
    assert sets.bounding == sets.permitted == sets.effective == caps.DEFAULT | bit("NET_ADMIN")


def test_a_dropped_capability_is_not_ambient() -> None:
    # "Dropping a capability will drop it from all sets."
    sets = for_container(drop=["NET_ADMIN"], ambient=["NET_ADMIN"], possible=ALL)
    assert sets == for_container(possible=ALL)


def test_privileged_has_everything() -> None:
    sets = for_container(drop=["ALL", "CHOWN"], privileged=True, possible=ALL)
    assert sets.bounding == sets.permitted == sets.effective == ALL


def test_another_user_holds_only_what_survives_execve() -> None:
    sets = for_container(["SYS_ADMIN"], ambient=["NET_RAW"], uid=1000, possible=ALL)
    assert sets.bounding == caps.DEFAULT | bit("SYS_ADMIN")
    assert sets.permitted == sets.effective == sets.inheritable == sets.ambient == bit("NET_RAW")


def test_what_the_kernel_lacks_is_not_granted() -> None:
    old = (1 << 38) - 1  # before CAP_PERFMON
    assert for_container(["ALL"], possible=old).bounding == old
    assert for_container(["BPF"], ambient=["PERFMON"], possible=old).bounding == caps.DEFAULT


_LISTS = st.lists(st.sampled_from((*NAMES, "ALL", "NONSENSE")), max_size=6)


@given(_LISTS, _LISTS, _LISTS, st.booleans(), st.sampled_from((0, 1000)))
def test_sets_are_such_as_the_kernel_accepts(
    add: list[str], drop: list[str], ambient: list[str], privileged: bool, uid: int
) -> None:
    sets = for_container(add, drop, ambient, privileged=privileged, uid=uid, possible=ALL)
    # capset(2) and PR_CAP_AMBIENT_RAISE demand these.
    assert sets.effective & ~sets.permitted == 0
    assert sets.permitted & ~sets.bounding == 0
    assert sets.ambient & ~(sets.permitted & sets.inheritable) == 0
    assert sets.inheritable == sets.ambient


def test_limit_names_what_is_missing() -> None:
    wanted = for_container(["SYS_RESOURCE", "SYS_TIME"], possible=ALL)
    limited, missing = caps.limit(wanted, ALL & ~bit("SYS_RESOURCE") & ~bit("SYS_TIME"))
    assert missing == ["SYS_RESOURCE", "SYS_TIME"]
    assert limited == for_container(possible=ALL)
    assert caps.limit(limited, ALL) == (limited, [])


def test_names() -> None:
    assert names(bit("CAP_CHOWN") | bit("checkpoint_restore")) == ["CHOWN", "CHECKPOINT_RESTORE"]
    assert names(1 << 41) == ["41"]
    with pytest.raises(LookupError, match="NONSENSE"):
        bit("NONSENSE")
    assert caps.unknown(["CHOWN", "all", "NONSENSE", "CAP_KILL"]) == ["NONSENSE"]


def test_every_is_what_the_kernel_says() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert caps.every().bit_length() == int(file.read()) + 1
