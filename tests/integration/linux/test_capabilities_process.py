"""Capability sets in force, before and after execve(2), as /proc/PID/status shows them."""

from __future__ import annotations

import os
import subprocess

import pytest
from linux_children import in_child, status_field

from podlite.linux import capabilities as caps
from podlite.linux.capabilities import Capabilities, bit, drop_bounding, for_container, set_capabilities
from podlite.linux.syscalls import PR_SET_KEEPCAPS, prctl

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

FIELDS = {
    "CapBnd": "bounding",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapInh": "inheritable",
    "CapAmb": "ambient",
}


def become(sets: Capabilities, uid: int) -> None:
    """The order in which a container's first process gives up what it is not to have."""
    drop_bounding(sets.bounding)
    prctl(PR_SET_KEEPCAPS, 1)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_KEEPCAPS, 0)
    set_capabilities(sets)


def sets_after(sets: Capabilities, uid: int, *, execute: bool) -> dict[str, int]:
    def run() -> dict[str, str]:
        become(sets, uid)
        if execute:
            output = subprocess.run(
                ["/bin/cat", "/proc/self/status"], capture_output=True, check=True, text=True
            ).stdout
            lines = dict(line.split(":\t", 1) for line in output.splitlines() if line.startswith("Cap"))
            return {name: lines[name] for name in FIELDS}
        return {name: status_field(name) for name in FIELDS}

    return {FIELDS[name]: int(value, 16) for name, value in in_child(run).items()}


def available(sets: Capabilities) -> Capabilities:
    return caps.limit(sets, caps.held())[0]


@pytest.mark.parametrize("execute", [False, True])
def test_root_in_an_ordinary_container(execute: bool) -> None:
    sets = available(for_container())
    assert sets_after(sets, 0, execute=execute) == sets.as_dict()


def test_another_user_has_nothing_but_the_bounding_set() -> None:
    sets = available(for_container(uid=1000))
    nothing = {"permitted": 0, "effective": 0, "inheritable": 0, "ambient": 0}
    assert sets_after(sets, 1000, execute=False) == {"bounding": sets.bounding, **nothing}
    assert sets_after(sets, 1000, execute=True) == {"bounding": sets.bounding, **nothing}


def test_ambient_capabilities_survive_execve_of_another_user() -> None:
    sets = available(for_container(ambient=["NET_ADMIN"], uid=1000))
    after = sets_after(sets, 1000, execute=True)
    assert after["effective"] == after["permitted"] == after["ambient"] == after["inheritable"] == bit("NET_ADMIN")


def test_nothing_left_of_nothing() -> None:
    sets = for_container(drop=["ALL"])
    assert sets_after(sets, 0, execute=True) == dict.fromkeys(sets.as_dict(), 0)


def test_what_is_dropped_cannot_be_done() -> None:
    def change_owner() -> None:
        become(for_container(drop=["CHOWN"]), 0)
        os.chown(f"/proc/{os.getpid()}/root/tmp", 1, 1)

    with pytest.raises(PermissionError):
        in_child(change_owner)


def test_held_is_what_the_kernel_shows() -> None:
    assert caps.held() == int(status_field("CapBnd"), 16) & int(status_field("CapPrm"), 16)


def test_without_the_right_the_bounding_set_stays() -> None:
    def try_it() -> None:
        set_capabilities(Capabilities(bounding=0, permitted=0, effective=0))
        drop_bounding(0)

    with pytest.raises(PermissionError):
        in_child(try_it)
