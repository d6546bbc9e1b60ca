"""`podlite describe`, `debug`, `volume`, and what `run` takes from the command line for a pod's containers."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from tests.support.cli import HOST_IMAGE, SECONDS, Podlite, pod

pytestmark = [pytest.mark.root]


def test_describe_ends_with_the_events(podlite: Podlite) -> None:
    command = podlite.run_in_background(pod("echo ready; exec sleep 1000"))
    command.until_out("ready")
    done = podlite("describe", "demo")
    assert done.status == 0, done
    lines = done.out.splitlines()
    assert lines[0].split() == ["Name:", "demo"]
    assert re.fullmatch(r"IP: +10\.85\.\d+\.\d+", next(line for line in lines if line.startswith("IP:")))
    at = lines.index("Events:")
    reasons = [line.split()[1] for line in lines[at + 3 :]]
    assert reasons == ["Pulled", "Created", "Started"]
    assert podlite("describe", "nobody").status == 1
    assert podlite("rm", "-f", "demo").status == 0
    command.wait()


def test_debug_sees_the_target_and_ends_with_its_code(podlite: Podlite) -> None:
    """ "Debugging using ephemeral containers": --target shares the process namespace of that container."""
    command = podlite.run_in_background(pod("echo ready; exec sleep 4321"))
    command.until_out("ready")
    done = podlite("debug", "demo", "--target", "main", "--", "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; exit 3")
    assert (done.status, done.out) == (3, "sleep 4321 "), done
    assert re.fullmatch(r"Defaulting debug container name to debugger-[a-z0-9]{5}\.\n", done.err)
    status = podlite("inspect", "demo").json["status"]
    [debugger] = status["ephemeralContainerStatuses"]
    assert debugger["state"]["terminated"]["exitCode"] == 3
    assert status["phase"] == "Running"
    done = podlite("debug", "-i", "-q", "demo", stdin="echo typed; exit 4\n")
    assert (done.status, done.out, done.err) == (4, "typed\n", ""), done
    done = podlite("debug", "-d", "-c", "stays", "demo", "--", "sleep", "1000")
    assert (done.status, done.out) == (0, "stays\n"), done
    for words, why in (
        (("-c", "stays"), 'name: Duplicate value: "stays"'),
        (("--target", "nobody"), 'targetContainerName: Not found: "nobody"'),
        (("-c", "Not_a_name"), "name: Invalid value"),
    ):
        done = podlite("debug", *words, "demo")
        assert done.status == 2, done
        assert why in done.err
    assert podlite("rm", "-f", "demo").status == 0
    command.wait()


def test_debug_on_a_terminal(podlite: Podlite) -> None:
    command = podlite.run_in_background(pod("echo ready; exec sleep 1000"))
    command.until_out("ready")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        podlite.argv("debug", "-it", "-q", "demo", "--", "sh", "-c", "read word; tty; echo got $word; exit 6"),
        stdin=theirs, stdout=theirs, stderr=theirs, env=podlite.environment(),
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"hello\r")
    assert process.wait(SECONDS) == 6
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:
        pass  # EIO: nobody has the other end any more
    os.close(ours)
    assert b"/dev/pts/0\r\ngot hello\r\n" in said
    assert podlite("rm", "-f", "demo").status == 0
    command.wait()


@pytest.mark.parametrize(
    ("profile", "capabilities"),
    [
        # The container engines' default set, with SYS_PTRACE (19), with NET_ADMIN (12) and NET_RAW (in it anyway).
        ("baseline", 0xA80425FB),
        ("general", 0xA80425FB | 1 << 19),
        ("netadmin", 0xA80425FB | 1 << 12),
    ],
)
def test_profiles_of_debug(podlite: Podlite, profile: str, capabilities: int) -> None:
    command = podlite.run_in_background(pod("echo ready; exec sleep 1000"))
    command.until_out("ready")
    done = podlite("debug", "--profile", profile, "demo", "--", "awk", "/CapEff/ {print $2}", "/proc/self/status")
    assert (done.status, int(done.out, 16)) == (0, capabilities), done
    assert podlite("rm", "-f", "demo").status == 0
    command.wait()


CLAIM = f"""apiVersion: v1
kind: Pod
metadata: {{name: demo}}
spec:
  restartPolicy: Never
  volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]
  containers:
  - {{name: c, image: {HOST_IMAGE}, command: [sh, -c, SCRIPT], volumeMounts: [{{name: v, mountPath: /v}}]}}
"""


def test_volumes_are_listed_used_and_removed(podlite: Podlite) -> None:
    command = podlite.run_in_background(CLAIM.replace("SCRIPT", "'echo kept > /v/x; echo ready; exec sleep 1000'"))
    command.until_out("ready")
    header, row = podlite("volume", "ls").out.splitlines()
    assert header.split("   ")[0] == "NAMESPACE"
    assert row.split()[:2] == ["default", "data"]
    assert "demo" in row.split()
    done = podlite("volume", "rm", "data")
    assert done.status == 1, done
    assert "is in use by the pod" in done.err
    assert podlite("rm", "-f", "demo").status == 0
    command.wait()
    assert podlite("volume", "ls").out.splitlines()[1].split()[4] == "<none>"
    assert podlite("run", "-q", podlite.manifest(CLAIM.replace("SCRIPT", "'cat /v/x'"))).out == "kept\n"
    assert podlite("volume", "ls", "-q").out == "default/data\n"
    done = podlite("volume", "rm", "--unused")
    assert (done.status, done.out) == (0, 'volume "data" removed from default namespace\n'), done
    assert podlite("volume", "ls", "-q").out == ""
    assert podlite("volume", "rm", "default/data").status == 1


USES = f"""apiVersion: v1
kind: Pod
metadata: {{name: demo}}
spec:
  restartPolicy: Never
  volumes: [{{name: v, configMap: {{name: settings}}}}]
  containers:
  - name: c
    image: {HOST_IMAGE}
    command: [sh, -c, 'cat /v/colour; echo $token']
    env: [{{name: token, valueFrom: {{secretKeyRef: {{name: keys, key: token}}}}}}]
    volumeMounts: [{{name: v, mountPath: /v}}]
"""


def test_objects_from_files(podlite: Podlite) -> None:
    """As `kubectl create configmap NAME --from-file=PATH` makes them."""
    directory = f"{podlite.directory}/settings"
    os.mkdir(directory)
    for path, text in ((f"{directory}/colour", "blue\n"), (f"{podlite.directory}/token", "s3cret")):
        with open(path, "w") as file:
            file.write(text)
    words = ("--configmap", f"settings={directory}", "--secret-from", f"keys={podlite.directory}/token")
    done = podlite("run", "-q", *words, podlite.manifest(USES))
    assert (done.status, done.out) == (0, "blue\ns3cret\n"), done
    done = podlite("run", "-q", "--configmap", "settings=/no/such/file", podlite.manifest(USES))
    assert done.status == 125, done
    assert "/no/such/file cannot be read: No such file or directory" in done.err
    done = podlite("run", *words, *words[:2], podlite.manifest(USES))
    assert done.status == 2, done
    assert "there is a ConfigMap default/settings already" in done.err


def test_a_published_port(podlite: Podlite) -> None:
    """-p HOST:CONTAINER is a hostPort: reached on the machine's addresses, from the machine itself too."""
    server = (
        "import socket; s = socket.create_server(('0.0.0.0', 8000)); print('ready', flush=True)\n"
        "c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    command = podlite.start(
        "run", "-q", "--image", HOST_IMAGE, "--name", "demo", "-p", "127.0.0.1:18080:8000", "--",
        "/usr/bin/python3", "-c", server,
    )  # fmt: skip
    command.until_out("ready")
    client = "import socket; print(socket.create_connection(('127.0.0.1', 18080), 10).recv(5).decode())"
    argv = ["nsenter", f"--net={podlite.netns}", "--", "/usr/bin/python3", "-c", client]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "hello\n"
    assert command.wait().status == 0
    done = podlite("run", "--image", HOST_IMAGE, "-p", "80", "--", "true")
    assert done.status == 2, done
    assert "-p 80: it has to be HOST:CONTAINER" in done.err
