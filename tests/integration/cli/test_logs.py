"""`podlite logs`: of running and ended pods, from another terminal, across restarts and rotations."""

from __future__ import annotations

import re
import signal

import pytest

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]

TWO = f"""apiVersion: v1
kind: Pod
metadata: {{name: two}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: init, image: "{HOST_IMAGE}", command: [/bin/sh, -c, echo first]}}
  containers:
  - {{name: one, image: "{HOST_IMAGE}", command: [/bin/sh, -c, "echo out; echo err >&2; exec sleep 1000"]}}
  - {{name: two, image: "{HOST_IMAGE}", command: [/bin/sh, -c, "echo other; exec sleep 1000"]}}
"""


def test_which_container(podlite: Podlite) -> None:
    command = podlite.run_in_background(TWO, says="two/two started")
    command.until(lambda: "other" in command.out and "err" in command.err, "all of the output")
    done = podlite("logs", "two")
    assert sorted(done.out.split()) == ["err", "out"], "as kubectl: both streams on standard output"
    assert done.err == 'Defaulted container "one" out of: one, two, init (init)\n'
    assert podlite("logs", "two", "-c", "two").out == "other\n"
    assert podlite("logs", "two", "-c", "init").out == "first\n"
    assert podlite("logs", "two", "-c", "one", "--stream", "stderr").out == "err\n"
    everything = podlite("logs", "two", "--all-containers", "--prefix").out.splitlines()
    assert everything[0] == "two/init first"
    assert sorted(everything[1:]) == ["two/one err", "two/one out", "two/two other"]
    wrong = podlite("logs", "two", "-c", "three")
    assert wrong.status == 1
    assert wrong.err == "podlite: container three is not valid for pod two out of: one, two, init (init)\n"


def test_a_part_of_it(podlite: Podlite) -> None:
    # A pause after each, for what is read at once has one time.
    command = podlite.run_in_background(pod("for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done; exec sleep 1000"))
    command.until_out("line 5")
    assert podlite("logs", "demo", "--tail", "2").out == "line 4\nline 5\n"
    assert podlite("logs", "demo", "--tail", "0").out == ""
    assert podlite("logs", "demo", "--tail", "-1").out.count("line") == 5
    assert podlite("logs", "demo", "--limit-bytes", "9").out == "line 1\nli"
    assert podlite("logs", "demo", "--since", "1h").out.count("line") == 5
    assert podlite("logs", "demo", "--since-time", "2100-01-01T00:00:00Z").out == ""
    stamped = podlite("logs", "demo", "--timestamps", "--tail", "1").out
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 5\n", stamped)
    first = podlite("logs", "demo", "--timestamps").out.splitlines()[2].split()[0]
    assert podlite("logs", "demo", "--since-time", first).out == "line 3\nline 4\nline 5\n"


def test_following_until_the_container_ends(podlite: Podlite, short_tmp: str) -> None:
    volumes = f"volumes: [{{name: state, hostPath: {{path: {short_tmp}}}}}]"
    script = "echo begun; while [ ! -e /state/go ]; do sleep 0.05; done; echo done; printf 'no end'"
    text = pod(script, spec=volumes, more="volumeMounts: [{name: state, mountPath: /state}]")
    podlite.run_in_background(text)
    follower = podlite.start("logs", "-f", "demo")
    follower.until_out("begun\n")
    with open(f"{short_tmp}/go", "w"):
        pass
    done = follower.wait()
    assert (done.status, done.out) == (0, "begun\ndone\nno end"), done


def test_following_across_restarts(podlite: Podlite) -> None:
    spec = "volumes: [{name: state, emptyDir: {}}]"
    more = "volumeMounts: [{name: state, mountPath: /state}]"
    script = "echo x >>/state/n; n=$(wc -l </state/n); echo run $n; [ $n -lt 2 ] && exit 1; exec sleep 1000"
    podlite.run_in_background(pod(script, restart="OnFailure", spec=spec, more=more))
    follower = podlite.start("logs", "-f", "demo")
    follower.until_out("run 2\n")
    # The instance before the current one is still there to be read.
    previous = podlite("logs", "--previous", "demo")
    assert (previous.status, previous.out) == (0, "run 1\n"), previous
    assert podlite("logs", "demo").out == "run 2\n"
    follower.signal(signal.SIGINT)
    assert follower.wait().status == 130


def test_there_is_no_previous_one(podlite: Podlite) -> None:
    podlite.run_in_background(pod("sleep 1000"))
    done = podlite("logs", "--previous", "demo")
    assert done.status == 1
    assert 'previous terminated container "main" in pod "demo" not found' in done.err


def test_a_container_that_has_not_started(podlite: Podlite) -> None:
    init = f'initContainers:\n- name: first\n  image: {HOST_IMAGE}\n  command: ["sleep", "1000"]'
    podlite.run_in_background(pod("true", spec=init), says="first started")
    done = podlite("logs", "demo", "-c", "main")
    assert done.status == 1
    assert 'container "main" in pod "demo" is waiting to start: PodInitializing' in done.err


def test_the_podlite_is_killed_meanwhile(podlite: Podlite) -> None:
    command = podlite.run_in_background(pod("echo begun; exec sleep 1000"))
    follower = podlite.start("logs", "-f", "demo")
    follower.until_out("begun")
    command.signal(signal.SIGKILL)
    done = follower.wait()
    assert done.status == 1, done
    assert f"the podlite that ran pod default/demo, process {command.process.pid}, has been killed" in done.err
    assert "removed pod default/demo" in podlite("prune").out


def test_rotated_logs(podlite: Podlite) -> None:
    """More than is kept in one file: everything that is kept comes, in order."""
    script = "python3 -c 'import sys; [sys.stdout.write(f\"{i:063}\\n\") for i in range(250_000)]'; exec sleep 1000"
    command = podlite.run_in_background(pod(script))
    command.until_out(f"{249_999:063}\n")
    lines = podlite("logs", "demo").out.splitlines()
    assert lines[-1] == f"{249_999:063}"
    assert lines == [f"{i:063}" for i in range(250_000 - len(lines), 250_000)]


def test_a_closed_pipe(podlite: Podlite) -> None:
    import subprocess

    command = podlite.run_in_background(pod("while echo y; do :; done"))
    command.until_out("y\n")
    follower = podlite.start("logs", "-f", "demo", stdout=subprocess.PIPE)
    assert follower.process.stdout is not None
    assert follower.process.stdout.read(2) == b"y\n"
    follower.process.stdout.close()
    done = follower.wait()
    assert (done.status, done.err) == (141, "")
