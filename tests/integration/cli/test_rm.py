"""`podlite rm` and `podlite prune`: ending and removing pods from another terminal, and what killed ones left."""

from __future__ import annotations

import signal

import pytest

from tests.support.cli import Podlite, pod

pytestmark = [pytest.mark.root]

POLITE = "trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def test_rm_ends_a_pod_of_another_process(podlite: Podlite) -> None:
    command = podlite.start("run", podlite.manifest(pod(POLITE)))
    command.until_out("ready")
    done = podlite("rm", "demo")
    assert (done.status, done.out, done.err) == (0, 'pod "demo" deleted from default namespace\n', "")
    ended = command.wait()
    assert ended.out == "ready\ngoodbye\n"
    # As the kubelet has it: a pod that is deleted while it runs, and whose containers end well, has succeeded.
    assert ended.status == 0, ended


def test_rm_by_force(podlite: Podlite) -> None:
    command = podlite.start("run", podlite.manifest(pod(STUBBORN, spec="terminationGracePeriodSeconds: 3600")))
    command.until_out("ready")
    assert podlite("rm", "--force", "demo").status == 0
    assert command.wait().status == 137
    assert podlite("rm", "--force", "demo").status == 0, "a pod that is not there is no error"
    assert podlite("rm", "demo").status == 1


def test_rm_with_another_grace_period(podlite: Podlite) -> None:
    command = podlite.start("run", podlite.manifest(pod(STUBBORN, spec="terminationGracePeriodSeconds: 3600")))
    command.until_out("ready")
    assert podlite("rm", "--grace-period", "1", "demo").status == 0
    assert command.wait().status == 137


def test_rm_all_and_some(podlite: Podlite) -> None:
    names = ["one", "two", "three"]
    text = "---\n".join(pod(POLITE, name=name) for name in names)
    command = podlite.start("run", podlite.manifest(text))
    command.until(lambda: command.out.count("ready") == 3, "three pods")
    done = podlite("rm", "one", "two")
    assert sorted(done.out.split('"')[1::2]) == ["one", "two"]
    assert podlite("ps", "-o", "name").out == "pod/three\n"
    assert podlite("rm", "--all").out == 'pod "three" deleted from default namespace\n'
    assert command.wait().status == 0


def test_rm_without_waiting(podlite: Podlite) -> None:
    command = podlite.start("run", podlite.manifest(pod(STUBBORN, spec="terminationGracePeriodSeconds: 2")))
    command.until_out("ready")
    done = podlite("rm", "--wait=false", "demo")
    assert (done.status, done.out) == (0, "")
    assert command.wait().status == 137


def test_prune_after_a_kill(podlite: Podlite) -> None:
    """SIGKILL leaves records; `prune` says first what it would remove, then removes it, and what runs stays."""
    victim = podlite.run_in_background(pod("sleep 1000", name="victim"))
    podlite.run_in_background(pod("sleep 1000", name="other"))
    victim.signal(signal.SIGKILL)
    victim.process.wait()
    told = podlite("prune", "--dry-run").out
    assert "would remove pod default/victim, whose podlite was killed" in told
    done = podlite("prune")
    assert done.status == 0, done
    assert "removed pod default/victim, whose podlite was killed" in done.out
    assert "other" not in done.out
    assert done.out.splitlines()[-1].startswith("Freed ")
    assert podlite("ps", "-a", "-o", "name").out == "pod/other\n"
    assert podlite("prune").out == "Nothing to remove.\n"


def test_the_next_run_reaps_it_too(podlite: Podlite) -> None:
    victim = podlite.run_in_background(pod("sleep 1000", name="victim"))
    victim.signal(signal.SIGKILL)
    victim.process.wait()
    assert podlite("run", podlite.manifest(pod("true"))).status == 0
    assert podlite("ps", "-a").err == "No pods found.\n"


def test_rm_of_an_orphan(podlite: Podlite) -> None:
    victim = podlite.run_in_background(pod("sleep 1000"))
    victim.signal(signal.SIGKILL)
    victim.process.wait()
    assert podlite("rm", "demo").out == 'pod "demo" deleted from default namespace\n'
