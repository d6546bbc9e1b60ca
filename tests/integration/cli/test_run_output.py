"""What `podlite run` prints: containers' output byte for byte, states as they change, objects, its own log."""

from __future__ import annotations

import json
import re
import signal

import pytest
import yaml

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]

BOTH = f"""apiVersion: v1
kind: Pod
metadata: {{name: both}}
spec:
  restartPolicy: Never
  containers:
  - {{name: one, image: "{HOST_IMAGE}", command: [/bin/sh, -c, "printf 'a\\nb'; exit 0"]}}
  - {{name: two, image: "{HOST_IMAGE}", command: [/bin/sh, -c, "printf 'c\\n'; exit 0"]}}
"""


def test_output_is_passed_on_byte_for_byte(podlite: Podlite) -> None:
    script = r"printf '\000\001\377\n\r\n\033[1mx'; printf 'no end' >&2"
    done = podlite("run", "--quiet", podlite.manifest(pod(script)))
    assert done.status == 0, done
    assert done.raw == b"\x00\x01\xff\n\r\n\x1b[1mx"
    assert done.err == "no end"


def test_much_output(podlite: Podlite) -> None:
    """More than one rotation of the log: 10 MiB each (the kubelet's containerLogMaxSize)."""
    script = "python3 -c 'import sys; [sys.stdout.write(f\"{i:063}\\n\") for i in range(400_000)]'"
    done = podlite("run", "--quiet", podlite.manifest(pod(script)))
    assert done.status == 0
    assert done.raw == b"".join(b"%063d\n" % i for i in range(400_000))


def test_plain_lines_in_a_pipe_and_prefixes_if_asked_for(podlite: Podlite) -> None:
    manifest = podlite.manifest(BOTH)
    assert sorted(podlite("run", "--quiet", manifest).out.replace("b", "b\n").split()) == ["a", "b", "c"]
    done = podlite("run", "--prefix", "always", "--quiet", manifest)
    assert sorted(done.out.splitlines()) == ["both/one a", "both/one b", "both/two c"]


def test_states_as_they_change(podlite: Podlite) -> None:
    init = f'initContainers:\n- name: first\n  image: {HOST_IMAGE}\n  command: ["/bin/true"]'
    done = podlite("run", podlite.manifest(pod("exit 3", spec=init)))
    assert done.err.splitlines() == [
        "podlite: demo/first started",
        "podlite: demo/first ended: Completed, exit code 0",
        "podlite: default/demo is Running",
        "podlite: demo/main started",
        "podlite: demo/main ended: Error, exit code 3",
        "podlite: default/demo is Failed",
        "podlite: container main of pod default/demo failed with exit code 3",
    ]


def test_on_a_terminal(podlite: Podlite) -> None:
    """A coloured `pod/container` before each line, and an end is said after what was printed before it."""
    with podlite.terminal("run", podlite.manifest(BOTH)) as terminal:
        assert terminal.wait() == 0
    plain = re.sub(r"\x1b\[\d*m", "", terminal.seen)
    assert sorted(line for line in plain.splitlines() if not line.startswith("podlite:")) == [
        "both/one a",
        "both/one b",
        "both/two c",
    ]
    colours = dict(re.findall(r"\x1b\[(\d+)mboth/(\w+)\x1b\[0m ", terminal.seen))
    assert set(colours.values()) == {"one", "two"}
    assert len(colours) == 2, "each container has a colour of its own"
    assert plain.index("both/two c") < plain.index("both/two ended: Completed")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours(podlite: Podlite, env: dict[str, str]) -> None:
    from tests.support.terminal import Terminal

    argv = ["env", *(f"{name}={value}" for name, value in env.items())]
    with Terminal([*argv, *podlite.argv("run", podlite.manifest(BOTH))], podlite.environment()) as terminal:
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.seen
    assert "both/two c\n" in terminal.seen


def test_interrupt_on_a_terminal(podlite: Podlite) -> None:
    script = "trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with podlite.terminal("run", podlite.manifest(pod(script))) as terminal:
        terminal.until("ready")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "goodbye" in terminal.seen


def test_quiet(podlite: Podlite) -> None:
    done = podlite("run", "--quiet", podlite.manifest(pod("echo out; echo err >&2; exit 4")))
    assert (done.status, done.out, done.err) == (4, "out\n", "err\n")


# --- -o ---------------------------------------------------------------------------------------


def test_the_final_pod_as_json(podlite: Podlite) -> None:
    done = podlite("run", "-o", "json", podlite.manifest(pod("echo not here; exit 3")))
    assert done.status == 3, done
    assert done.err == "podlite: container main of pod default/demo failed with exit code 3\n"
    found = done.json
    assert (found["apiVersion"], found["kind"], found["metadata"]["name"]) == ("v1", "Pod", "demo")
    status = found["status"]
    assert status["phase"] == "Failed"
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    # A pod keeps the addresses that it had.
    assert status["podIP"] == status["podIPs"][0]["ip"]
    assert [":" in each["ip"] for each in status["podIPs"]] == [False, True]
    assert status["hostIP"] == "127.0.0.1", "a host with nothing but lo"
    assert status["qosClass"] == "BestEffort"
    [container] = status["containerStatuses"]
    assert (container["name"], container["restartCount"], container["ready"]) == ("main", 0, False)
    assert container["image"] == HOST_IMAGE
    assert container["containerID"].startswith("podlite://")
    ended = container["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    times = [status["startTime"], ended["startedAt"], ended["finishedAt"]]
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each) for each in times)


def test_several_are_a_list(podlite: Podlite) -> None:
    text = pod("exit 0", name="a") + "---\n" + pod("exit 0", name="b")
    done = podlite("run", "-o", "yaml", podlite.manifest(text))
    assert done.status == 0, done
    assert done.err == ""
    found = yaml.safe_load(done.out)
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert [(each["metadata"]["name"], each["status"]["phase"]) for each in found["items"]] == [
        ("a", "Succeeded"),
        ("b", "Succeeded"),
    ]


def test_the_pod_is_printed_also_when_it_was_given_up(podlite: Podlite) -> None:
    text = pod("true").replace(HOST_IMAGE, "'Not An Image'")
    done = podlite("run", "-o", "json", podlite.manifest(text))
    assert done.status == 125, done
    assert done.json["metadata"]["name"] == "demo"
    assert "InvalidImageName" in done.err


def test_restarts_are_in_it(podlite: Podlite) -> None:
    spec = "volumes: [{name: state, emptyDir: {}}]"
    more = "volumeMounts: [{name: state, mountPath: /state}]"
    text = pod("[ -e /state/x ] && exit 0; touch /state/x; exit 5", restart="OnFailure", spec=spec, more=more)
    done = podlite("run", "-o", "json", podlite.manifest(text))
    assert done.status == 0, done
    [container] = done.json["status"]["containerStatuses"]
    assert container["restartCount"] == 1
    assert container["state"]["terminated"]["exitCode"] == 0
    assert container["lastState"]["terminated"]["exitCode"] == 5


# --- podlite's own log ------------------------------------------------------------------------


def test_every_step_is_an_event(podlite: Podlite) -> None:
    """As JSON, with which pod, sandbox and container it is about, and how many milliseconds it took."""
    words = ["run", "--quiet", "--log-level", "info", "--log-format", "json"]
    done = podlite(*words, podlite.manifest(pod("true")))
    assert done.status == 0, done
    events = [json.loads(line) for line in done.err.splitlines()]
    by_name = {each["event"]: each for each in events}
    expected = ["manifest.load", "sandbox.run", "netns.create", "network.setup", "shim.fork", "container.create"]
    expected += ["container.fork", "container.rootfs", "container.confine", "container.run", "container.exit"]
    expected += ["sandbox.stop", "sandbox.remove", "pod.cleanup"]
    assert [name for name in expected if name not in by_name] == []
    assert all(by_name[name]["ms"] >= 0 for name in expected)
    assert by_name["sandbox.run"]["pod"] == "default/demo"
    assert len(by_name["netns.create"]["sandbox_id"]) == 64
    run = by_name["container.run"]
    assert len(run["container_id"]) == 64
    assert (run["pod"], run["level"]) == ("default/demo", "info")
    assert {"controller", "shim", "container"} <= {each["where"] for each in events if "where" in each}


def test_the_log_for_a_person(podlite: Podlite) -> None:
    done = podlite("run", "--log-level", "info", podlite.manifest(pod("true")))
    assert done.status == 0, done
    assert re.search(r"\[info +\] netns\.create +.*ms=", done.err)


def test_nothing_is_logged_without_reason(podlite: Podlite) -> None:
    done = podlite("run", "--quiet", podlite.manifest(pod("true")))
    assert done.err == ""


# --- --keep -----------------------------------------------------------------------------------


def test_keep(podlite: Podlite) -> None:
    """The ended pod stays: its object, its log, its files; `rm` takes all of it away."""
    done = podlite("run", "--keep", podlite.manifest(pod("echo something; echo inside >/left; exit 3")))
    assert done.status == 3, done
    assert "default/demo is kept: `podlite rm " in done.err
    assert podlite("ps").out == ""
    listed = podlite("ps", "-a").out.splitlines()
    assert listed[1].split()[:5] == ["default", "demo", "0/1", "Error", "0"]
    assert podlite("logs", "demo").out == "something\n"
    assert podlite("inspect", "demo").json["status"]["phase"] == "Failed"
    # Its files can still be looked at, with a program of the host.
    looked = podlite("nsenter", "demo", "--mnt", "--", "cat", "/left")
    assert (looked.status, looked.out) == (0, "inside\n"), looked
    refused = podlite("exec", "demo", "--", "true")
    assert refused.status == 125
    assert "cannot exec into a container in a completed pod; current phase is Failed" in refused.err
    gone = podlite("rm", "demo")
    assert (gone.status, gone.out) == (0, 'pod "demo" deleted from default namespace\n')
    assert podlite("ps", "-a").err == "No pods found.\n"


def test_what_was_kept_is_pruned_only_if_asked_for(podlite: Podlite) -> None:
    assert podlite("run", "--keep", podlite.manifest(pod("true"))).status == 0
    assert podlite("prune").out == "Nothing to remove.\n"
    told = podlite("prune", "--all", "--dry-run").out
    assert "would remove pod default/demo, which had ended" in told
    assert podlite("ps", "-a", "-q").out.count("\n") == 1
    assert "removed pod default/demo, which had ended" in podlite("prune", "--all").out


def test_keep_after_an_interrupt(podlite: Podlite) -> None:
    command = podlite.run_in_background(pod("sleep 1000", spec="terminationGracePeriodSeconds: 0"), "--keep")
    command.signal(signal.SIGINT)
    assert command.wait().status == 130
    assert podlite("ps", "-a", "--no-headers").out.split()[:2] == ["default", "demo"]
    assert podlite("rm", "demo").status == 0
