"""podlite as the kubelet of another runtime: the kubelet's side unchanged, over the wire.

Against podlite's own server always, and against Debian's containerd where that is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest

from podlite.api.manifest import load_manifests
from podlite.api.pod import Pod
from podlite.api.status import ContainerStatus
from podlite.cri.errors import ImageError, NotFoundError, UnavailableError
from podlite.cri.types import ContainerFilter, ContainerState, ImageSpec
from podlite.kubelet.kubelet import Kubelet
from podlite.kubelet.written_pods import find_pods
from podlite.rpc.client import RemoteRuntime
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.support.agents import Machine
from tests.support.behaviours import log_of
from tests.support.containers import HOST_IMAGE
from tests.support.cri_server import own_server
from tests.support.kubelets import open_kubelet

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
async def kubelet(remote: RemoteRuntime, layout: Layout) -> AsyncIterator[Kubelet]:
    async with open_kubelet(remote, layout, run_dir=f"{layout.run_dir}/kubelet") as opened:
        yield opened


def pod(remote: RemoteRuntime, spec: str) -> Pod:
    """A pod by the YAML of its spec; IMAGE in it is an image that the runtime has."""
    lines = spec.replace("IMAGE", remote.image).strip("\n").splitlines()  # type: ignore[attr-defined]
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: driven}\nspec:\n" + "\n".join(f"  {each}" for each in lines)
    (found,) = load_manifests([("test", text)], validate="strict").pods
    return found


async def reached(kubelet: Kubelet, uid: str, condition: Callable[[Pod], bool]) -> Pod:
    """The pod once the condition holds of it."""
    found: list[Pod] = []
    with anyio.fail_after(60):
        with kubelet.watch() as changes:
            async for change in changes:
                if change.pod.metadata.uid == uid and condition(change.pod):
                    found.append(change.pod)
                    break
    return found[0]


async def test_a_pod_from_beginning_to_end(kubelet: Kubelet, remote: RemoteRuntime) -> None:
    """Init container, volume, environment, log, exit code, all through the wire."""
    made = await kubelet.add_pod(
        pod(
            remote,
            """
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: i, image: IMAGE, command: [sh, -c, 'echo from init > /v/file'], volumeMounts: [{name: v, mountPath: /v}]}
containers:
- name: c
  image: IMAGE
  command: [sh, -c, 'cat /v/file; echo "$WHO" >&2; exit 3']
  env: [{name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  volumeMounts: [{name: v, mountPath: /v}]
""",
        )
    )
    ended = await kubelet.wait_terminated(made.metadata.uid)
    assert ended.status.phase == "Failed"
    state = ended.status.container_statuses[0].state.terminated
    assert state is not None
    assert (state.exit_code, state.reason) == (3, "Error")
    assert "from init" in await log_of(kubelet, ended, "c")


async def test_probes_restarts_and_the_grace_period(kubelet: Kubelet, remote: RemoteRuntime) -> None:
    """An exec probe goes by ExecSync; what it kills is restarted; the end is asked for before it is forced."""
    made = await kubelet.add_pod(
        pod(
            remote,
            """
restartPolicy: Always
terminationGracePeriodSeconds: 30
containers:
- name: c
  image: IMAGE
  command: [sh, -c, 'trap "exit 0" TERM; touch /tmp/healthy; while :; do sleep 0.05; done']
  volumeMounts: [{name: t, mountPath: /tmp}]
  livenessProbe: {exec: {command: [test, -e, /tmp/healthy]}, periodSeconds: 1, failureThreshold: 1}
volumes: [{name: t, emptyDir: {}}]
""",
        )
    )
    uid = made.metadata.uid
    running = await reached(kubelet, uid, _running)
    id = running.status.container_statuses[0].container_id.partition("://")[2]
    assert (await remote.exec_sync(id, ["rm", "/tmp/healthy"])).exit_code == 0
    again = await reached(
        kubelet, uid, lambda each: each.status.container_statuses[0].restart_count == 1 and _running(each)
    )
    last = again.status.container_statuses[0].last_state.terminated
    assert last is not None
    assert last.exit_code == 0, "it was killed, not asked"
    await kubelet.delete_pod(uid)
    with anyio.fail_after(60):
        await kubelet.wait_removed(uid)


def _running(each: Pod) -> bool:
    statuses = each.status.container_statuses
    return bool(statuses) and statuses[0].state.running is not None


async def test_exec_attach_and_port_forward(kubelet: Kubelet, remote: RemoteRuntime) -> None:
    """What the runtime answers with a URL for is dialled, whoever serves it."""
    made = await kubelet.add_pod(
        pod(
            remote,
            """
restartPolicy: Never
containers:
- {name: c, image: IMAGE, stdin: true, command: [sh, -c, 'while read line; do echo got $line; done']}
""",
        )
    )
    running = await reached(kubelet, made.metadata.uid, _running)
    id = running.status.container_statuses[0].container_id.partition("://")[2]
    streams: dict[str, Any] = {"stdin": True, "stdout": True, "stderr": True}
    async with await remote.exec(id, ["sh", "-c", "cat; echo err >&2; exit 7"], tty=False, **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdin.send(b"through the wire")
        await process.stdin.aclose()
        assert b"".join([chunk async for chunk in process.stdout]) == b"through the wire"
        assert b"".join([chunk async for chunk in process.stderr]) == b"err\n"
        assert await process.wait() == 7
    async with await remote.attach(id, tty=False, **streams) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        await attached.stdin.send(b"a line\n")
        assert await attached.stdout.receive() == b"got a line\n"
    (sandbox,) = await remote.list_pod_sandbox()
    with pytest.raises((UnavailableError, anyio.EndOfStream, anyio.BrokenResourceError)):
        async with await remote.port_forward(sandbox.id, 9) as stream:
            await stream.receive()


async def test_errors_are_the_seams_own(remote: RemoteRuntime) -> None:
    with pytest.raises(NotFoundError):
        await remote.container_status("0" * 64)
    await remote.stop_container("0" * 64, 0)
    await remote.remove_container("0" * 64)
    await remote.stop_pod_sandbox("0" * 64)
    await remote.remove_pod_sandbox("0" * 64)
    assert await remote.images.image_status(ImageSpec(image="nowhere.example/none:1")) is None
    with pytest.raises((ImageError, UnavailableError)):
        await remote.images.pull_image(ImageSpec(image="127.0.0.1:9/none:1"))


async def test_a_program_that_is_not_there(kubelet: Kubelet, remote: RemoteRuntime) -> None:
    spec = "restartPolicy: Never\ncontainers: [{name: c, image: IMAGE, command: [/no/such/program]}]"
    made = await kubelet.add_pod(pod(remote, spec))

    def failed(each: Pod) -> bool:
        statuses = each.status.container_statuses
        return bool(statuses) and (statuses[0].state.terminated is not None)

    ended = await reached(kubelet, made.metadata.uid, failed)
    state = ended.status.container_statuses[0].state.terminated
    assert state is not None
    # pkg/kubelet/kuberuntime: what StartContainer said is in the message.
    assert state.exit_code == 128
    assert state.reason in ("StartError", "ContainerCannotRun")
    assert "/no/such/program" in state.message


async def test_podlite_run_on_another_runtime(runtime: Runtime, layout: Layout) -> None:
    async with own_server(layout, runtime) as path:
        arguments = [f"--runtime-endpoint=unix://{path}", f"--run-dir={layout.run_dir}/kubelet"]
        arguments += [
            f"--state-dir={layout.state_dir}",
            f"--log-dir={layout.log_dir}",
            f"--cgroup-root={layout.cgroup_root}",
        ]
        command = [sys.executable, "-m", "podlite", "run", *arguments, "--image", HOST_IMAGE, "--", "sh", "-c"]
        done = await anyio.run_process([*command, "echo output; exit 6"], check=False)
        assert (done.stdout, done.returncode) == (b"output\n", 6)
    gone = await anyio.run_process([*command, "true"], check=False, stderr=subprocess.PIPE)
    assert gone.returncode == 2
    assert b"does not answer" in gone.stderr


def _directories(layout: Layout) -> list[str]:
    return [
        f"--run-dir={layout.run_dir}/kubelet",
        f"--state-dir={layout.state_dir}",
        f"--log-dir={layout.log_dir}",
        f"--cgroup-root={layout.cgroup_root}",
    ]


async def _podlite(verb: str, *arguments: str, input: bytes = b"") -> tuple[int, str]:
    """(exit status, both outputs)."""
    command = [sys.executable, "-m", "podlite", verb, *arguments]
    with anyio.fail_after(60):  # a command that hangs is ended, and the test with it
        done = await anyio.run_process(command, input=input, check=False, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode()


# It says that it is there until it is heard: containerd passes the input on before it attaches to the output.
_TALK = "while :; do echo here; sleep 0.05; done & read line; kill $!; echo got $line; exit 9"


async def _attached(pod: list[str], input: bytes) -> tuple[int, str]:
    """(exit status, the last line) of an attachment to _TALK that answers the first line with `input`."""
    command = [sys.executable, "-m", "podlite", "attach", "-i", *pod]
    with anyio.fail_after(60):
        async with await anyio.open_process(command, stderr=None) as process:
            assert process.stdin is not None and process.stdout is not None
            said = await process.stdout.receive()
            await process.stdin.send(input)  # and not its end: containerd detaches from the output, too
            async for chunk in process.stdout:
                said += chunk
            return await process.wait(), said.decode().splitlines()[-1]


@asynccontextmanager
async def _foreground_run(remote: RemoteRuntime, layout: Layout, directory: Path) -> AsyncIterator[anyio.abc.Process]:
    """`podlite run` of a pod on the runtime, once its containers run; killed at the end if it still runs."""
    image = remote.image  # type: ignore[attr-defined]
    manifest = directory / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: driven}\n"
        "spec:\n  terminationGracePeriodSeconds: 1\n  containers:\n"
        f"  - {{name: c, image: '{image}', command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.05; done']}}\n"
        f"  - {{name: talks, image: '{image}', stdin: true, command: [sh, -c, '{_TALK}']}}\n"
    )
    arguments = [*_directories(layout), f"--runtime-endpoint={remote.endpoint}", str(manifest)]
    process = await anyio.open_process([sys.executable, "-m", "podlite", "run", *arguments], stdout=None, stderr=None)
    try:
        with anyio.fail_after(60):
            while [each.state.running is not None for each in _statuses(layout)] != [True, True]:
                await anyio.sleep(0.02)
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


def _statuses(layout: Layout) -> list[ContainerStatus]:
    return [each for found in find_pods(f"{layout.run_dir}/kubelet") for each in found.pod.status.container_statuses]


async def test_commands_reach_a_pod_on_another_runtime(remote: RemoteRuntime, layout: Layout, tmp_path: Path) -> None:
    """exec and attach by the runtime's streams, nsenter by its processes, debug and rm by who runs the pod."""
    run_dir, *_ = _directories(layout)
    pod = [run_dir, "driven"]
    async with _foreground_run(remote, layout, tmp_path) as process:
        # The exit statuses are those of a shell (docs/cli.md).
        assert await _podlite("exec", *pod, "-c", "c", "--", "sh", "-c", "echo out; exit 7") == (7, "out\n")
        assert await _podlite("exec", "-i", *pod, "-c", "c", "--", "cat", input=b"in") == (0, "in")
        code, said = await _podlite("exec", *pod, "-c", "c", "--", "/no/such/program")
        assert (code, "/no/such/program" in said) == (127, True)
        assert await _attached([*pod, "-c", "talks"], b"a line\n") == (9, "got a line")
        code, inside = await _podlite("nsenter", *pod, "-c", "c", "--net", "--", "readlink", "/proc/self/ns/net")
        assert (code, inside.startswith("net:["), inside.strip() != os.readlink("/proc/self/ns/net")) == (0, True, True)
        image = remote.image  # type: ignore[attr-defined]
        code, said = await _podlite("debug", *pod, "--image", image, "--", "echo", "debugged")
        assert (code, said.splitlines()[-1]) == (0, "debugged")
        assert (await _podlite("rm", *pod, *_directories(layout)[1:]))[0] == 0
        with anyio.fail_after(60):
            await process.wait()
    assert await remote.list_pod_sandbox() == []
    assert find_pods(f"{layout.run_dir}/kubelet") == []


async def test_what_a_killed_podlite_left_on_another_runtime(
    remote: RemoteRuntime, layout: Layout, tmp_path: Path
) -> None:
    async with _foreground_run(remote, layout, tmp_path) as process:
        process.kill()
        await process.wait()
    assert len(await remote.list_pod_sandbox()) == 1
    assert (await _podlite("prune", *_directories(layout)))[0] == 0
    assert await remote.list_pod_sandbox() == []
    assert await remote.list_containers() == []
    assert find_pods(f"{layout.run_dir}/kubelet") == []


async def test_a_record_stays_until_the_runtime_answers(runtime: Runtime, layout: Layout, tmp_path: Path) -> None:
    async with own_server(layout, runtime) as path, RemoteRuntime(path) as remote:
        remote.image = HOST_IMAGE  # type: ignore[attr-defined]
        async with _foreground_run(remote, layout, tmp_path) as process:
            process.kill()
            await process.wait()
    code, said = await _podlite("prune", *_directories(layout))
    assert (code, "does not answer: there is no such socket" in said) == (1, True)
    assert [each.orphaned for each in find_pods(f"{layout.run_dir}/kubelet")] == [True]
    async with own_server(layout, runtime) as path, RemoteRuntime(path) as remote:
        assert (await _podlite("prune", *_directories(layout)))[0] == 0
        assert await remote.list_pod_sandbox() == []


async def test_an_agent_on_another_runtime_is_replaced(runtime: Runtime, layout: Layout, tmp_path: Path) -> None:
    """Its pods are the runtime's: a killed agent's successor finds them as they were, by the wire."""
    machine = Machine(msgspec.structs.replace(layout, run_dir=f"{layout.run_dir}/agent"))
    manifest = machine.manifests / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: stays}\n"
        "spec:\n  terminationGracePeriodSeconds: 1\n"
        f"  containers: [{{name: c, image: '{HOST_IMAGE}', command: [sleep, '1000']}}]\n"
    )
    async with own_server(layout, runtime) as path, RemoteRuntime(path) as remote:
        option = f"--runtime-endpoint=unix://{path}"
        try:
            await anyio.to_thread.run_sync(machine.start, option)
            first = await _until_running(remote)
            await anyio.to_thread.run_sync(machine.kill)
            await anyio.to_thread.run_sync(machine.start, option)
            assert await _until_running(remote) == first
            manifest.unlink()
            with anyio.fail_after(60):
                while await remote.list_pod_sandbox():
                    await anyio.sleep(0.02)
        finally:
            machine.kill()


async def _until_running(remote: RemoteRuntime) -> list[str]:
    with anyio.fail_after(60):
        while True:
            running = await remote.list_containers(ContainerFilter(state=ContainerState.CONTAINER_RUNNING))
            if running:
                return [each.id for each in running]
            await anyio.sleep(0.02)
