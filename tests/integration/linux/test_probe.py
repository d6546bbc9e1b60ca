"""What `podlite check` asks of the machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from cgroup_fixtures import ROOT
from linux_children import in_child

from podlite.linux import facts, probe, syscalls
from podlite.linux.cgroup_mounts import hierarchies
from podlite.linux.facts import DEGRADED, MISSING, OK

T = TypeVar("T")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def _with_traces(look: Callable[[], T]) -> tuple[T, bool]:
    """What `look` says, and whether it left nothing behind: looked at from where nobody else mounts anything."""

    def traces() -> list[object]:
        return [
            Path("/proc/self/mountinfo").read_text(),
            sorted(os.listdir("/proc/self/fd")),
            {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
            [each.mount for each in hierarchies() if os.path.exists(each.mount + ROOT)],
        ]

    def in_private() -> list[object]:
        if os.geteuid() == 0:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        before = traces()
        answer = look()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return [answer, traces() == before]

    answer, clean = in_child(in_private)
    return answer, clean


def test_every_probe_answers_and_nothing_is_left() -> None:
    answers, clean = _with_traces(probe.probe)
    assert list(answers) == list(probe.PROBES)
    assert "did not come back" not in " ".join(answers.values())
    assert clean


def test_facts_are_sentences_and_nothing_is_left() -> None:
    answers, clean = _with_traces(lambda: facts.facts(ROOT))
    found = [facts.Fact(*each) for each in answers]
    assert {fact.name for fact in found} >= {*probe.PROBES, "kernel", "cgroups", "IPv4 forwarding", "IPv6 forwarding"}
    for fact in found:
        assert fact.state in (OK, DEGRADED, MISSING)
        assert bool(fact.consequence) == (fact.state != OK), fact
        assert "\n" not in fact.detail
    assert clean


@pytest.mark.parametrize("name", ["user", "mount", "network", "ipc", "uts", "cgroup", "pid"])
def test_each_namespace_type_is_tried(name: str) -> None:
    assert f"{name} namespaces" in probe.PROBES


def test_an_ordinary_user_is_told_what_is_missing() -> None:
    def as_nobody() -> list[list[str]]:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        return [list(fact) for fact in facts.facts(ROOT)]

    found = [facts.Fact(*each) for each in in_child(as_nobody)]
    assert not facts.can_run(found)
    states = {fact.name: fact.state for fact in found}
    assert states["capability SYS_ADMIN"] == states["overlayfs"] == states["mount namespaces"] == MISSING
    assert states["cgroups"] == DEGRADED


@pytest.mark.root
@root_only
def test_a_limit_of_zero_namespaces_is_noticed() -> None:
    """user.max_net_namespaces counts per user namespace, so it can be set for ourselves alone."""

    def confined() -> str:
        own = os.getuid()
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/uid_map").write_text(f"0 {own} 1\n")
        Path("/proc/sys/user/max_net_namespaces").write_text("0\n")
        return probe.probe()["network namespaces"]

    assert in_child(confined).startswith("unshare: No space left")


def test_a_probe_that_kills_its_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe.PROBES, "overlayfs", lambda: os.kill(os.getpid(), 9))
    answers = probe.probe()
    assert answers["overlayfs"] == answers["pid namespaces"] == "the probe did not come back"
    assert answers["user namespaces"] != "the probe did not come back"


def test_a_probe_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    monkeypatch.setattr(probe, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setitem(probe.PROBES, "seccomp", lambda: os.read(read_end, 1))
    try:
        assert probe.probe()["seccomp"] == "the probe did not come back"
    finally:
        os.close(read_end)
        os.close(write_end)
