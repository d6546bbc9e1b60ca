"""When `podlite run` gives up: at once on what no retry can change, and never with --keep-trying."""

from __future__ import annotations

import signal

import pytest

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]

CASES = {
    "InvalidImageName": (
        pod("true").replace(HOST_IMAGE, "'Not An Image'"),
        125,
        "container main of pod default/demo: InvalidImageName: Failed to apply default image tag",
    ),
    "ErrImageNeverPull": (
        pod("true", more="imagePullPolicy: Never").replace(HOST_IMAGE, "registry.invalid/nobody/nothing:1"),
        125,
        "container main of pod default/demo: ErrImageNeverPull: Container image"
        ' "registry.invalid/nobody/nothing:1" is not present with pull policy of Never',
    ),
    "CreateContainerConfigError": (
        pod("true", more="envFrom: [{configMapRef: {name: nowhere}}]"),
        125,
        'container main of pod default/demo: CreateContainerConfigError: configmap "nowhere" not found',
    ),
    "StartError": (
        pod("true").replace('"/bin/sh"', '"/no/such/program"'),
        127,
        'container main of pod default/demo: StartError: exec: "/no/such/program": stat /no/such/program:',
    ),
    "FailedMount": (
        pod(
            "true",
            spec="volumes: [{name: gone, configMap: {name: nowhere}}]",
            more="volumeMounts: [{name: gone, mountPath: /gone}]",
        ),
        125,
        'pod default/demo: FailedMount: MountVolume.SetUp failed for volume "gone" : configmap "nowhere" not found',
    ),
}


@pytest.mark.parametrize("reason", CASES)
def test_gives_up_at_once(podlite: Podlite, reason: str) -> None:
    text, status, says = CASES[reason]
    done = podlite("run", podlite.manifest(text))
    assert done.status == status, done
    assert done.err.strip().splitlines()[-1].startswith(f"podlite: {says}"), done
    assert done.out == ""


@pytest.mark.parametrize("reason", ["InvalidImageName", "CreateContainerConfigError", "FailedMount"])
def test_keeps_trying_if_told_so(podlite: Podlite, reason: str) -> None:
    """The same state is reached and said, and the run goes on until somebody ends it."""
    text, _, _ = CASES[reason]
    command = podlite.start("run", "--keep-trying", podlite.manifest(text))
    command.until_err(reason)
    # It has come to the same state and is still there: an inspection finds the pod, alive.
    found = podlite("inspect", "demo")
    assert found.status == 0, found
    assert found.json["status"]["phase"] == "Pending"
    assert command.process.poll() is None
    command.signal(signal.SIGINT)
    done = command.wait()
    assert done.status == 130, done


def test_a_start_error_is_tried_again_where_the_policy_says_so(podlite: Podlite) -> None:
    text = pod("true", restart="OnFailure").replace('"/bin/sh"', '"/no/such/program"')
    command = podlite.start("run", podlite.manifest(text))
    command.until_err("waits: CrashLoopBackOff: back-off 10s restarting failed container=main pod=demo_default(")
    command.signal(signal.SIGINT)
    assert command.wait().status == 130


def test_restart_policy_always_goes_on_after_success(podlite: Podlite) -> None:
    command = podlite.start("run", podlite.manifest(pod("echo once more", restart="Always")))
    command.until_err("started again (restart 1)")
    command.until(lambda: command.out.count("once more\n") == 2, "two instances' output")
    command.signal(signal.SIGINT)
    done = command.wait()
    assert done.status == 130, done
    # What an instance printed comes before what is said of its end.
    assert done.err.index("ended: Completed, exit code 0") < done.err.index("started again (restart 1)")


def test_one_pod_that_cannot_start_ends_the_others(podlite: Podlite) -> None:
    text = pod("trap 'echo ended; exit 0' TERM; while :; do sleep 0.05; done", name="good", container="good")
    text += "---\n" + CASES["InvalidImageName"][0]
    done = podlite("run", podlite.manifest(text))
    assert done.status == 125, done
    assert "default/good is" in done.err
    assert "InvalidImageName" in done.err.splitlines()[-1]


def test_the_network_cannot_be_set_up(podlite: Podlite) -> None:
    """An overlap of --pod-cidr with an existing route is an error that names it."""
    import subprocess

    route = ["nsenter", f"--net={podlite.netns}", "ip", "route", "add", "10.97.0.0/16", "dev", "lo"]
    subprocess.run(route, check=True)
    try:
        done = podlite("run", "--pod-cidr", "10.97.3.0/24", podlite.manifest(pod("true")))
    finally:
        subprocess.run([each.replace("add", "del") for each in route], check=True)
    assert done.status == 125, done
    assert "10.97.3.0/24" in done.err.splitlines()[-1]
    assert "10.97.0.0/16" in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    "step",
    [
        *("sandbox.record", "netns.create", "network.setup", "shim.fork", "shim.setup", "container.create"),
        *("container.cgroup", "container.mounts", "container.start", "container.fork", "container.rootfs"),
    ],
)
def test_a_full_disk_at_any_step_is_told(podlite: Podlite, step: str) -> None:
    """Whatever the machine refuses, wherever: a sentence, the pod's phase, an exit status, and nothing left."""
    words = ["run", "-o", "json", podlite.manifest(pod("echo ran"))]
    done = podlite(*words, env={"PODLITE_FAULTS": f"{step}=error(ENOSPC)"})
    assert done.status == 125, done
    assert "No space left on device" in done.err.strip().splitlines()[-1]
    assert "Traceback" not in done.err
    assert "Errno" not in done.err
    assert done.json["status"]["phase"] == "Failed"
