"""The commands, and the agent's API, on pods of another runtime: nothing tells them from podlite's own.

The outputs and messages are kubectl's, the exit statuses those of docs/cli.md.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anyio import to_thread

from podlite.agent.client import Client, pods_path
from podlite.agent.local_api import open_client
from podlite.rpc.client import RemoteRuntime
from podlite.runtime.layout import Layout
from tests.support.agents import Machine, container_status, manifest, until
from tests.support.websockets import Channels

pytestmark = [pytest.mark.root, pytest.mark.anyio]

# It says that it is there until it is heard: containerd passes the input on before it attaches to the output.
TALK = "while :; do echo here; sleep 0.05; done & read line; kill $!; echo got $line; exit 9"
REMAIN = "trap 'exit 0' TERM; echo hello; while :; do sleep 0.05; done"


@pytest.fixture
async def machine(remote: RemoteRuntime, layout: Layout) -> AsyncIterator[Machine]:
    """An agent that is the kubelet of the runtime; its pods are gone in the end."""
    machine = Machine(msgspec.structs.replace(layout, run_dir=f"{layout.run_dir}/agent"))
    try:
        await to_thread.run_sync(machine.start, f"--runtime-endpoint={remote.endpoint}")
        yield machine
        await to_thread.run_sync(_remove_all, machine)
        assert await remote.list_pod_sandbox() == []
    except BaseException:
        print(machine.log.read_text()[-20_000:])
        raise
    finally:
        machine.kill()


def _remove_all(machine: Machine) -> None:
    for each in machine.pods():
        machine.delete(each["metadata"]["name"])
    until(lambda: not machine.pods(), "all pods are gone")


def _manifest(remote: RemoteRuntime, name: str, script: str = REMAIN, **container: Any) -> dict[str, Any]:
    image = {"image": remote.image, "imagePullPolicy": "IfNotPresent"}  # type: ignore[attr-defined]
    return manifest(name, script=script, labels={"app": name}, container={**image, **container})


async def test_each_verb_on_the_agents_pods(machine: Machine, remote: RemoteRuntime, tmp_path: Path) -> None:
    path = tmp_path / "web.json"
    path.write_text(json.dumps(_manifest(remote, "web")))
    await to_thread.run_sync(_each_verb, machine, path, remote)


def _each_verb(machine: Machine, path: Path, remote: RemoteRuntime) -> None:
    image: str = remote.image  # type: ignore[attr-defined]

    def said(*arguments: str, **options: Any) -> str:
        return machine.podlite(*arguments, **options).stdout

    assert said("run", "--detach", str(path)) == "pod/web created\n"
    assert said("wait", "--for=condition=Ready", "pod/web", "--timeout=60s") == "pod/web condition met\n"
    assert said("get", "pods", "--no-headers").split()[:4] == ["web", "1/1", "Running", "0"]
    assert said("get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name") == "pod/web\n"
    status = json.loads(said("get", "pod", "web", "-o", "json"))["status"]
    wide = said("get", "pods", "-o", "wide", "--no-headers").split()
    assert wide[5:7] == [status.get("podIP", "<none>"), machine.node]
    assert said("ps", "-o", "name") == "pod/web\n"
    until(lambda: said("logs", "web") == "hello\n")
    assert "Status:" in said("describe", "web")
    reasons = {line.split()[2] for line in said("events", "--for", "pod/web", "--no-headers").splitlines()}
    assert {"Pulled", "Created", "Started"} <= reasons
    done = machine.podlite("exec", "web", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert said("exec", "-i", "web", "--", "cat", input="in") == "in"
    missing = machine.podlite("exec", "web", "--", "/no/such/program", check=False)
    assert (missing.returncode, "/no/such/program" in missing.stderr) == (127, True)
    assert said("debug", "web", "--image", image, "--", "echo", "debugged").endswith("debugged\n")
    # One that ends before it is attached to: what it said is in its log.
    quick = machine.podlite("debug", "-i", "web", "--image", image, "--", "sh", "-c", "echo in; exit 3", check=False)
    assert (quick.returncode, quick.stdout) == (3, "in\n"), quick.stderr
    # The runtime has the pod whether the agent is there or not.
    machine.kill()
    assert said("exec", "web", "--", "echo", "still") == "still\n"
    assert said("logs", "web") == "hello\n"
    assert said("get", "pods", "-o", "name") == "pod/web\n"
    machine.start(f"--runtime-endpoint={remote.endpoint}")
    assert said("delete", "pod", "web") == 'pod "web" deleted from default namespace\n'
    gone = machine.podlite("get", "pod", "web", check=False)
    assert (gone.returncode, gone.stderr) == (1, 'podlite: Error from server (NotFound): pods "web" not found\n')


async def test_attach_ends_with_its_instance(machine: Machine, remote: RemoteRuntime) -> None:
    """By the command and by the API; the container is started again at once (pod lifecycle, "Container restarts")."""
    await to_thread.run_sync(_attach, machine, _manifest(remote, "talks", script=TALK, stdin=True))


def _attach(machine: Machine, pod: dict[str, Any]) -> None:
    for name in ("talks", "others"):
        machine.client.request("POST", pods_path("default"), {**pod, "metadata": {"name": name}})
        machine.running(name)
        if name == "talks":
            command = machine.command("attach", "-i", name)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(command, env=machine.environment(), bufsize=0, **pipes) as attached:  # type: ignore[call-overload]
                assert attached.stdout.readline() == b"here\n"
                attached.stdin.write(b"you\n")
                assert attached.stdout.read().endswith(b"got you\n")
                assert attached.wait(60) == 9
        else:
            _talk(machine.socket, name)
        machine.wait(name, lambda pod: container_status(pod)["restartCount"] == 1)


def _talk(socket: str, name: str) -> None:
    """An attachment by the API, to its end."""
    with Channels(socket, f"{pods_path('default', name)}/attach", stdin="true", container="main") as channels:
        channels.read_until(b"here\n")
        channels.send(0, b"you\n")
        assert (channels.read_all() or {})["status"] == "Success"
        assert channels.output[1].endswith(b"got you\n")


async def test_the_api_reaches_what_a_foreground_run_has_there(
    remote: RemoteRuntime, layout: Layout, tmp_path: Path
) -> None:
    path = tmp_path / "talks.json"
    path.write_text(json.dumps(_manifest(remote, "talks", script=TALK, stdin=True)))
    machine = Machine(layout)
    command = machine.command("run", f"--runtime-endpoint={remote.endpoint}", str(path))
    run = subprocess.Popen(command, env=machine.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        await to_thread.run_sync(_reach, layout)
        # The container's: a shell that is process 1 has no action for SIGTERM, and is killed (pid_namespaces(7)).
        assert await to_thread.run_sync(run.wait, 60) == 128 + signal.SIGKILL
    finally:
        run.kill()
        run.wait()


def _reach(layout: Layout) -> None:
    with open_client(layout.run_dir) as client:
        pod = pods_path("default", "talks")
        until(lambda: [each["status"]["phase"] for each in _all(client)] == ["Running"], "it runs")
        with Channels(client.socket_path, f"{pod}/exec", command=["sh", "-c", "echo hi; exit 3"]) as channels:
            status = channels.read_all() or {}
            assert channels.output[1] == b"hi\n"
            # remotecommand's ExitCode cause (k8s.io/apimachinery/pkg/util/remotecommand, v4 of the protocol).
            assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
        _talk(client.socket_path, "talks")
        until(lambda: [container_status(each)["restartCount"] for each in _all(client)] == [1], "it runs again")
        client.request("DELETE", pod)
        until(lambda: _all(client) == [], "it is gone")


def _all(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.request("GET", pods_path(""))["items"]
    return found
