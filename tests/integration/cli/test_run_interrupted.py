"""Ctrl-C and SIGTERM at every moment of a run: the exit status says it, and nothing is left."""

from __future__ import annotations

import signal

import pytest

from tests.support.cli import Command, Podlite, pod

pytestmark = [pytest.mark.root]

# The steps that the controller itself goes through, in their order.
BEFORE = ["manifest.load", "runtime.open", "pod.admit", "pod.cgroup", "sandbox.run", "sandbox.record", "sandbox.files"]
DURING = ["netns.create", "network.address", "network.setup", "sandbox.confirm", "image.ensure", "container.create"]
LATE = ["container.cgroup", "container.mounts", "container.start"]
AFTER = ["sandbox.stop", "shim.stop", "network.teardown", "netns.remove", "container.remove", "sandbox.remove"]
LAST = ["pod.cleanup", "runtime.close"]


def stopped(command: Command) -> bool:
    """Whether the process has stopped itself (proc(5): state T)."""
    with open(f"/proc/{command.process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def interrupt_at(podlite: Podlite, step: str, number: signal.Signals, script: str) -> Command:
    """A run that is signalled exactly at a step: it stops itself there, and goes on with the signal pending."""
    path = podlite.manifest(pod(script, spec="terminationGracePeriodSeconds: 0"))
    command = podlite.start("run", path, env={"PODLITE_FAULTS": f"{step}=1*stop"})
    command.until(lambda: stopped(command), f"stopping at {step}")
    command.signal(number)
    command.signal(signal.SIGCONT)
    return command


@pytest.mark.parametrize("step", [*BEFORE, *DURING, *LATE])
def test_interrupted_on_the_way_up(podlite: Podlite, step: str) -> None:
    done = interrupt_at(podlite, step, signal.SIGINT, "sleep 1000").wait()
    assert done.status == 130, done
    assert "Traceback" not in done.err


@pytest.mark.parametrize("step", ["runtime.open", "sandbox.run", "netns.create", "container.start"])
def test_terminated_on_the_way_up(podlite: Podlite, step: str) -> None:
    """Before podlite listens for it, SIGTERM ends it as it ends any program: 143 for a shell too."""
    done = interrupt_at(podlite, step, signal.SIGTERM, "sleep 1000").wait()
    assert done.status in (143, -signal.SIGTERM), done
    assert "Traceback" not in done.err


@pytest.mark.parametrize("step", [*AFTER, *LAST])
def test_interrupted_on_the_way_down(podlite: Podlite, step: str) -> None:
    """The pod has succeeded; whether that or the interrupt is told, everything is taken back."""
    done = interrupt_at(podlite, step, signal.SIGINT, "true").wait()
    assert done.status in (0, 130), done
    assert "Traceback" not in done.err
