"""`podlite ps` and `podlite inspect`: what any podlite on the machine runs, seen from another terminal."""

from __future__ import annotations

import os
import re
import signal

import pytest
import yaml

from tests.support.cli import HOST_IMAGE, Podlite, pod

pytestmark = [pytest.mark.root]


def test_nothing(podlite: Podlite) -> None:
    done = podlite("ps")
    assert (done.status, done.out) == (0, "")
    assert done.err == "No pods found; `podlite ps -a` lists ended ones too.\n"
    assert podlite("ps", "--quiet").out == ""
    assert podlite("ps", "-o", "json").json == {
        "apiVersion": "v1",
        "kind": "List",
        "items": [],
        "metadata": {"resourceVersion": ""},
    }


def test_pods_of_several_podlites(podlite: Podlite) -> None:
    """Two runs in two terminals, one pod each, in two namespaces."""
    podlite.run_in_background(pod("sleep 1000", name="one"))
    podlite.run_in_background(pod("sleep 1000", name="two").replace("name: two", "name: two\n  namespace: other"))
    lines = podlite("ps").out.splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]
    rows = [line.split() for line in lines[1:]]
    assert [row[:5] for row in rows] == [
        ["default", "one", "1/1", "Running", "0"],
        ["other", "two", "1/1", "Running", "0"],
    ]
    addresses = {row[6] for row in rows}
    assert len(addresses) == 2
    assert all(each.startswith("10.85.") for each in addresses)
    assert all(re.fullmatch(r"\d+s", row[5]) for row in rows)
    assert [row.split()[:2] for row in podlite("ps", "-n", "other", "--no-headers").out.splitlines()] == [
        ["other", "two"]
    ]
    assert podlite("ps", "-o", "name").out == "pod/one\npod/two\n"


def test_one_podlite_from_another(podlite: Podlite) -> None:
    """By name, namespace and name, uid, its beginning; with who runs it."""
    command = podlite.run_in_background(pod("sleep 1000"))
    uid = podlite("ps", "-q").out.strip()
    wide = podlite("ps", "-o", "wide", "--no-headers").out.split()
    assert wide[7:] == [uid, str(command.process.pid), HOST_IMAGE]
    for word in ("demo", "default/demo", "pod/demo", uid, uid[:8]):
        assert podlite("inspect", word).json["metadata"]["uid"] == uid, word
    assert podlite("inspect", "demo", "-n", "other").status == 1
    listed = podlite("ps", "-o", "json").json
    assert [each["metadata"]["uid"] for each in listed["items"]] == [uid]
    found = yaml.safe_load(podlite("inspect", "-o", "yaml", "demo").out)
    assert found["status"]["phase"] == "Running"
    assert found["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]


def test_inspect_several_is_a_list(podlite: Podlite) -> None:
    podlite.run_in_background(
        pod("sleep 1000", name="one") + "---\n" + pod("sleep 1000", name="two"), says="two/main started"
    )
    found = podlite("inspect", "one", "two").json
    assert found["kind"] == "List"
    assert [each["metadata"]["name"] for each in found["items"]] == ["one", "two"]


def test_records(podlite: Podlite) -> None:
    """What the runtime has written down: the process, the sandbox and its shim, the containers and their files."""
    command = podlite.run_in_background(pod("exec sleep 1000"))
    found = podlite("inspect", "--record", "demo").json
    assert found["process"]["pid"] == command.process.pid
    assert found["process"]["state"] == "running"
    [sandbox] = found["sandboxes"]
    assert os.path.exists(sandbox["record"]["netns"])
    [container] = sandbox["containers"]
    assert os.path.isdir(container["writable"])
    [running] = found["shim"]["containers"]
    with open(f"/proc/{running['pid']}/cmdline", "rb") as file:
        assert file.read() == b"sleep\x001000\x00"


def test_names_that_are_not_clear(podlite: Podlite) -> None:
    podlite.run_in_background(pod("sleep 1000"))
    podlite.run_in_background(pod("sleep 1000").replace("name: demo", "name: demo\n  namespace: other", 1))
    done = podlite("inspect", "demo")
    assert done.status == 1
    assert 'podlite: 2 pods are called "demo"\nhint: say which by its uid: ' in done.err
    assert podlite("inspect", "demo", "-n", "other").json["metadata"]["namespace"] == "other"
    missing = podlite("inspect", "nobody")
    assert missing.err == 'podlite: pods "nobody" not found\nhint: `podlite ps -a` lists the pods there are\n'
    assert missing.status == 1


def test_the_same_pod_twice_at_a_time(podlite: Podlite) -> None:
    """Two pods of one name in two podlites are two pods; each has a uid of its own."""
    podlite.run_in_background(pod("sleep 1000"))
    podlite.run_in_background(pod("sleep 1000"))
    assert len(set(podlite("ps", "-q").out.split())) == 2


def test_a_pod_that_cannot_get_anywhere(podlite: Podlite) -> None:
    text = pod("true").replace(HOST_IMAGE, "'Not An Image'")
    podlite.run_in_background(text, "--keep-trying", says="InvalidImageName")
    assert podlite("ps", "--no-headers").out.split()[:4] == ["default", "demo", "0/1", "InvalidImageName"]


def test_initialising(podlite: Podlite) -> None:
    init = f'initContainers:\n- name: first\n  image: {HOST_IMAGE}\n  command: ["sleep", "1000"]'
    podlite.run_in_background(pod("true", spec=init), says="first started")
    assert podlite("ps", "--no-headers").out.split()[:4] == ["default", "demo", "0/1", "Init:0/1"]


def test_orphans_are_shown_as_such(podlite: Podlite) -> None:
    """A podlite that was killed: its pod is still listed, nobody knows more of it, and every way to end it works."""
    command = podlite.run_in_background(pod("sleep 1000"))
    command.signal(signal.SIGKILL)
    command.process.wait()
    assert podlite("ps", "--no-headers").out.split()[:4] == ["default", "demo", "0/1", "Orphaned"]
    status = podlite("inspect", "demo").json["status"]
    assert (status["phase"], status["reason"]) == ("Unknown", "Orphaned")
    assert str(command.process.pid) in status["message"]
    assert podlite("exec", "demo", "--", "true").status == 125
    assert "removed pod default/demo, whose podlite was killed" in podlite("prune").out


def test_for_root_only(podlite: Podlite) -> None:
    podlite.run_in_background(pod("sleep 1000"))
    import subprocess

    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *podlite.argv("ps")[3:]]
    done = subprocess.run(as_nobody, check=False, env=podlite.environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert "only for root to see" in done.stderr
    assert "hint: run podlite as root" in done.stderr
