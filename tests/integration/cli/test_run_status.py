"""The exit status of `podlite run`: each row of the table in the README, and the line that says why."""

from __future__ import annotations

import signal

import pytest

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]


def last(err: str) -> str:
    """The last line on standard error: the one that says why."""
    return err.strip().splitlines()[-1]


def test_succeeded(podlite: Podlite) -> None:
    done = podlite("run", podlite.manifest(pod("echo hello; echo oops >&2")))
    assert done.status == 0, done
    assert done.out == "hello\n"
    assert "oops\n" in done.err
    assert last(done.err) == "podlite: default/demo is Succeeded"


def test_the_containers_own_code(podlite: Podlite) -> None:
    done = podlite("run", podlite.manifest(pod("exit 42")))
    assert done.status == 42, done
    assert last(done.err) == "podlite: container main of pod default/demo failed with exit code 42"


def test_a_signals_code_is_named(podlite: Podlite) -> None:
    # Not itself: the kernel keeps the first process of a pid namespace from its own signals (pid_namespaces(7)).
    done = podlite("run", podlite.manifest(pod("sh -c 'kill -SEGV $$$$'; exit $?")))
    assert done.status == 128 + signal.SIGSEGV, done
    assert "container main of pod default/demo was ended by signal 11" in last(done.err)


TWO = f"""apiVersion: v1
kind: Pod
metadata: {{name: two}}
spec:
  restartPolicy: Never
  containers:
  - name: slow
    image: {HOST_IMAGE}
    command: ["/bin/sh", "-c", "while [ ! -e /shared/failed ]; do sleep 0.02; done; sleep 1.1; exit 3"]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  - name: fast
    image: {HOST_IMAGE}
    command: ["/bin/sh", "-c", "touch /shared/failed; exit 7"]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  volumes: [{{name: shared, emptyDir: {{}}}}]
"""


def test_the_first_container_that_failed_counts(podlite: Podlite) -> None:
    # A status has its times in whole seconds (metav1.Time): the one that ends later does so a second later.
    done = podlite("run", podlite.manifest(TWO))
    assert done.status == 7, done
    assert last(done.err) == "podlite: container fast of pod default/two failed with exit code 7"


def test_a_failed_init_container_counts(podlite: Podlite) -> None:
    init = f'initContainers:\n- name: prepare\n  image: {HOST_IMAGE}\n  command: ["/bin/sh", "-c", "exit 9"]'
    done = podlite("run", podlite.manifest(pod("echo never", spec=init)))
    assert done.status == 9, done
    assert done.out == ""
    assert last(done.err) == "podlite: container prepare of pod default/demo failed with exit code 9"


def test_a_deadline_is_no_containers_fault(podlite: Podlite) -> None:
    text = pod("sleep 1000", spec="activeDeadlineSeconds: 1\nterminationGracePeriodSeconds: 0")
    done = podlite("run", podlite.manifest(text))
    assert done.status == 1, done
    assert last(done.err) == (
        "podlite: pod default/demo is Failed: DeadlineExceeded: Pod was active on the node longer than the specified"
        " deadline"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is nothing to run"),
        (["--no-such-option", "x.yaml"], "there is no option --no-such-option"),
        (["--timeout", "soon", "x.yaml"], "--timeout: 'soon' is not a duration"),
        (["--timeout", "0", "x.yaml"], "--timeout: '0' is too little"),
        (["no-such-file.yaml"], "no-such-file.yaml cannot be read: No such file or directory"),
        (["-e", "A=B", "x.yaml"], "--env goes with --image"),
        (["--image", HOST_IMAGE, "-v", "relative"], "-v relative: it has to be HOST:PATH"),
        (["--network", "bridge", "x.yaml"], "--network cannot be 'bridge'"),
    ],
)
def test_usage(podlite: Podlite, words: list[str], says: str) -> None:
    done = podlite("run", *words)
    assert done.status == 2, done
    assert says in done.err
    assert done.out == ""


def test_the_time_is_up(podlite: Podlite) -> None:
    text = pod("echo begun; sleep 1000", spec="terminationGracePeriodSeconds: 0")
    done = podlite("run", "--timeout", "2s", podlite.manifest(text))
    assert done.status == 124, done
    assert done.out == "begun\n"
    assert last(done.err) == "podlite: the time is up: --timeout 2"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            "volumes: [{name: gone, hostPath: {path: /no/such/directory, type: Directory}}]",
            "hostPath type check failed",
        ),
        ("securityContext: {runAsNonRoot: true}", "container has runAsNonRoot and image will run as root"),
    ],
)
def test_podlite_cannot_run_it(podlite: Podlite, spec: str, says: str) -> None:
    mount = "volumeMounts: [{name: gone, mountPath: /gone}]" if "volumes" in spec else ""
    done = podlite("run", podlite.manifest(pod("true", spec=spec, more=mount)))
    assert done.status == 125, done
    assert says in last(done.err)


def test_a_command_that_cannot_be_invoked(podlite: Podlite) -> None:
    done = podlite("run", "--image", HOST_IMAGE, "--", "/etc/passwd")
    assert done.status == 126, done
    assert last(done.err) == (
        'podlite: container main of pod default/host: StartError: exec: "/etc/passwd": permission denied'
    )


def test_a_command_that_is_not_there(podlite: Podlite) -> None:
    done = podlite("run", "--image", HOST_IMAGE, "--", "no-such-command")
    assert done.status == 127, done
    assert "executable file not found in $PATH" in last(done.err)


def test_a_container_that_says_127_itself(podlite: Podlite) -> None:
    done = podlite("run", podlite.manifest(pod("no-such-command")))
    assert done.status == 127, done
    assert last(done.err) == "podlite: container main of pod default/demo failed with exit code 127"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ended_by_a_signal(podlite: Podlite, number: signal.Signals, status: int) -> None:
    """The container is asked to end, and what it says while ending is still printed."""
    script = "trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    command = podlite.start("run", podlite.manifest(pod(script)))
    command.until_out("ready")
    command.signal(number)
    done = command.wait()
    assert done.status == status, done
    assert done.out == "ready\ngoodbye\n"
    assert "ending the pods; once more to kill them" in done.err


def test_a_second_interrupt_kills(podlite: Podlite) -> None:
    script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done"
    command = podlite.start("run", podlite.manifest(pod(script, spec="terminationGracePeriodSeconds: 3600")))
    command.until_out("ready")
    command.signal(signal.SIGINT)
    command.until_out("no")
    command.signal(signal.SIGINT)
    assert command.wait().status == 130


def test_status_of_several_pods_is_that_of_the_first_failure(podlite: Podlite) -> None:
    text = (
        pod("sleep 1.1; exit 5", name="late") + "---\n" + pod("exit 6", name="early") + "---\n" + pod("true", name="ok")
    )
    done = podlite("run", podlite.manifest(text))
    assert done.status == 6, done


def test_oom(podlite: Podlite) -> None:
    more = "resources: {limits: {memory: 30Mi}}"
    text = pod("python3 -c 'print(len(bytearray(300 << 20)))'", more=more)
    done = podlite("run", podlite.manifest(text))
    assert done.status == 137, done
    assert "was killed, for it used more memory than its limit (exit code 137)" in last(done.err)
    assert "demo/main ended: OOMKilled, exit code 137" in done.err


def test_output_closed(podlite: Podlite) -> None:
    """`podlite run … | head`: whoever reads has seen enough, and the pods end."""
    import subprocess

    text = pod("trap exit TERM; while echo y; do :; done")
    command = podlite.start("run", podlite.manifest(text), stdout=subprocess.PIPE)
    assert command.process.stdout is not None
    assert command.process.stdout.read(4) == b"y\ny\n"
    command.process.stdout.close()
    assert command.wait().status == 141
