"""runtime.v1.RuntimeService on the wire: each call, and each error code that it has.

What is expected is api.proto's and the kubelet's: k8s.io/cri-api/pkg/apis/runtime/v1/api.proto as of Kubernetes 1.36.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest

from podlite.rpc.wire import runtime_pb2 as wire
from podlite.runtime.layout import Layout
from podlite.runtime.service import Runtime
from tests.support.containers import read_log
from tests.support.cri_wire import Client, container_config, pod_config

pytestmark = [pytest.mark.root, pytest.mark.anyio]

NOBODY = "0" * 64


async def logged(path: str, output: bytes) -> None:
    """Waits until a container has written exactly that."""
    with anyio.fail_after(60):
        while read_log(path)["stdout"] != output:
            await anyio.sleep(0.01)


async def code_of(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends in, and its sentence."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def exited(client: Client, container: str) -> Any:
    """A container's status once it has ended."""
    with anyio.fail_after(60):
        while True:
            status = (await client.ContainerStatus(container_id=container)).status
            if status.state == wire.CONTAINER_EXITED:
                return status
            await anyio.sleep(0.01)


async def test_version(client: Client) -> None:
    """kubelets refuse another `version` than 0.1.0 (pkg/kubelet/kuberuntime: kubeRuntimeAPIVersion)."""
    answer = await client.Version(version="0.1.0")
    assert (answer.version, answer.runtime_name, answer.runtime_api_version) == ("0.1.0", "podlite", "v1")
    assert answer.runtime_version


async def test_status(client: Client) -> None:
    answer = await client.Status()
    assert {each.type: each.status for each in answer.status.conditions} == {"RuntimeReady": True, "NetworkReady": True}
    assert not answer.info
    assert answer.features.supplemental_groups_policy
    # The default handler has an empty name (RuntimeHandler in api.proto).
    handlers = {each.name: each.features for each in answer.runtime_handlers}
    assert handlers[""].recursive_read_only_mounts
    verbose = await client.Status(verbose=True)
    assert json.loads(verbose.info["config"])["network"] == "none"


async def test_runtime_config(client: Client) -> None:
    assert (await client.RuntimeConfig()).linux.cgroup_driver == wire.CGROUPFS
    await client.UpdateRuntimeConfig()
    for text in ("", "10.1.0.0/24", "10.1.0.0/24,fd00:1::/64"):
        await client.UpdateRuntimeConfig(runtime_config={"network_config": {"pod_cidr": text}})
    code, _ = await code_of(client.UpdateRuntimeConfig(runtime_config={"network_config": {"pod_cidr": "10.1.0.1/24"}}))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_life_of_a_sandbox(client: Client, layout: Layout) -> None:
    id, config = await client.sandbox(layout)
    answer = await client.PodSandboxStatus(pod_sandbox_id=id)
    status = answer.status
    assert status.state == wire.SANDBOX_READY
    assert status.metadata == config.metadata
    assert (dict(status.labels), dict(status.annotations)) == (dict(config.labels), dict(config.annotations))
    assert status.linux.namespaces.options == config.linux.security_context.namespace_options
    assert status.created_at > 0
    # With a timestamp the list of containers has to be whole (kuberuntime: GetPodStatus under EventedPLEG).
    assert (answer.timestamp, len(answer.containers_statuses)) == (0, 0)
    (listed,) = (await client.ListPodSandbox()).items
    assert (listed.id, listed.state, listed.metadata) == (id, wire.SANDBOX_READY, config.metadata)
    info = json.loads((await client.PodSandboxStatus(pod_sandbox_id=id, verbose=True)).info["info"])
    assert os.path.exists(f"/proc/{info['pid']}")
    assert os.path.exists(info["runtimeSpec"]["linux"]["namespaces"][0]["path"])
    await client.StopPodSandbox(pod_sandbox_id=id)
    await client.StopPodSandbox(pod_sandbox_id=id)
    assert (await client.PodSandboxStatus(pod_sandbox_id=id)).status.state == wire.SANDBOX_NOTREADY
    await client.RemovePodSandbox(pod_sandbox_id=id)
    await client.RemovePodSandbox(pod_sandbox_id=id)
    code, _ = await code_of(client.PodSandboxStatus(pod_sandbox_id=id))
    assert code == grpc.StatusCode.NOT_FOUND
    assert not (await client.ListPodSandbox()).items


async def test_sandbox_filters(client: Client, layout: Layout) -> None:
    first, _ = await client.sandbox(layout, "one")
    second, _ = await client.sandbox(layout, "two")
    await client.StopPodSandbox(pod_sandbox_id=second)

    async def ids(**filter: Any) -> list[str]:
        return [each.id for each in (await client.ListPodSandbox(filter=filter)).items]

    assert await ids() == [first, second]
    assert await ids(id=first) == [first]
    assert await ids(id=first[:12]) == [first]
    assert await ids(state={"state": wire.SANDBOX_READY}) == [first]
    assert await ids(state={"state": wire.SANDBOX_NOTREADY}) == [second]
    assert await ids(label_selector={"app": "two"}) == [second]
    assert await ids(label_selector={"app": "two"}, id=first) == []
    streamed = [each async for each in client.StreamPodSandboxes(filter={"label_selector": {"app": "one"}})]
    assert [each.id for page in streamed for each in page.pod_sandboxes] == [first]


async def test_sandbox_errors(client: Client, layout: Layout) -> None:
    config = pod_config(layout)
    await client.RunPodSandbox(config=config)
    code, sentence = await code_of(client.RunPodSandbox(config=config))
    assert code == grpc.StatusCode.ALREADY_EXISTS
    assert "exists already" in sentence
    code, sentence = await code_of(client.RunPodSandbox(config={"hostname": "x"}))
    assert (code, "no metadata" in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    config = pod_config(layout)
    config.linux.security_context.namespace_options.network = 77
    code, _ = await code_of(client.RunPodSandbox(config=config))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    code, sentence = await code_of(client.RunPodSandbox(config=pod_config(layout), runtime_handler="kata"))
    assert (code, "'kata'" in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, _ = await code_of(client.StopPodSandbox())
    assert code == grpc.StatusCode.INVALID_ARGUMENT


async def test_no_sandbox_sets_a_parameter_of_the_machine(client: Client, layout: Layout) -> None:
    """Only those of its namespaces are a pod's own (namespaces(7)), however their names are written."""
    config = pod_config(layout)
    # The value that it has, so that nobody is harmed where this is let through.
    config.linux.sysctls["net/../kernel/threads-max"] = Path("/proc/sys/kernel/threads-max").read_text().strip()
    code, sentence = await code_of(client.RunPodSandbox(config=config))
    assert (code, "threads-max" in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_the_life_of_a_container(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    made = container_config(
        ["/bin/sh", "-c", 'echo "$GREETING"; echo problem >&2; exit 3'],
        envs=[{"key": "GREETING", "value": b"hello"}],
        labels={"tier": "test"},
        annotations={"a": "b"},
        attempt=2,
    )
    id = (await client.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)).container_id
    status = (await client.ContainerStatus(container_id=id)).status
    assert (status.state, status.started_at, status.metadata) == (wire.CONTAINER_CREATED, 0, made.metadata)
    await client.StartContainer(container_id=id)
    status = await exited(client, id)
    assert (status.exit_code, status.reason) == (3, "Error")
    assert status.created_at < status.started_at <= status.finished_at
    assert status.log_path == f"{config.log_directory}/main.log"
    assert read_log(status.log_path) == {"stdout": b"hello\n", "stderr": b"problem\n"}
    assert dict(status.labels) == {"tier": "test"}
    (listed,) = (await client.ListContainers()).containers
    assert (listed.id, listed.pod_sandbox_id, listed.state) == (id, sandbox, wire.CONTAINER_EXITED)
    assert (listed.metadata.name, listed.metadata.attempt) == ("main", 2)
    for _ in range(2):
        await client.StopContainer(container_id=id, timeout=1)
    for _ in range(2):
        await client.RemoveContainer(container_id=id)
    code, _ = await code_of(client.ContainerStatus(container_id=id))
    assert code == grpc.StatusCode.NOT_FOUND


async def test_container_filters(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    other, other_config = await client.sandbox(layout, "other")
    running = await client.container(sandbox, config, ["/bin/sleep", "1000"], labels={"x": "1"})
    ended = await client.container(sandbox, config, ["/bin/true"], name="ended")
    elsewhere = await client.container(other, other_config, ["/bin/sleep", "1000"])
    await exited(client, ended)

    async def ids(**filter: Any) -> set[str]:
        return {each.id for each in (await client.ListContainers(filter=filter)).containers}

    assert await ids() == {running, ended, elsewhere}
    assert await ids(pod_sandbox_id=sandbox) == {running, ended}
    assert await ids(state={"state": wire.CONTAINER_RUNNING}) == {running, elsewhere}
    assert await ids(state={"state": wire.CONTAINER_EXITED}) == {ended}
    assert await ids(label_selector={"x": "1"}) == {running}
    assert await ids(id=running[:10]) == {running}
    pages = [each async for each in client.StreamContainers(filter={"pod_sandbox_id": other})]
    assert [each.id for page in pages for each in page.containers] == [elsewhere]


async def test_container_errors(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    made = container_config(["/bin/sleep", "1000"])

    def create(**changes: Any) -> Any:
        fields = {"pod_sandbox_id": sandbox, "config": made, "sandbox_config": config, **changes}
        return client.CreateContainer(**fields)

    assert (await code_of(create(pod_sandbox_id=NOBODY)))[0] == grpc.StatusCode.NOT_FOUND
    code, sentence = await code_of(create(config=container_config(["true"], image="nowhere.example/none:1")))
    assert (code, "nowhere.example/none:1" in sentence) == (grpc.StatusCode.NOT_FOUND, True)
    assert (await code_of(create(config={"command": ["true"]})))[0] == grpc.StatusCode.INVALID_ARGUMENT
    id = (await create()).container_id
    assert (await code_of(create()))[0] == grpc.StatusCode.ALREADY_EXISTS
    for call in (
        client.ExecSync(container_id=id, cmd=["true"]),
        client.Exec(container_id=id, cmd=["true"], stdout=True),
        client.Attach(container_id=id, stdout=True),
        client.ReopenContainerLog(container_id=id),
    ):
        assert (await code_of(call))[0] == grpc.StatusCode.FAILED_PRECONDITION
    await client.StartContainer(container_id=id)
    assert (await code_of(client.StartContainer(container_id=id)))[0] == grpc.StatusCode.FAILED_PRECONDITION
    for call in (
        client.StartContainer(container_id=NOBODY),
        client.ContainerStats(container_id=NOBODY),
        client.PodSandboxStats(pod_sandbox_id=NOBODY),
        client.UpdateContainerResources(container_id=NOBODY),
        client.UpdatePodSandboxResources(pod_sandbox_id=NOBODY),
        client.ReopenContainerLog(container_id=NOBODY),
        client.CheckpointContainer(container_id=NOBODY),
        client.ExecSync(container_id=NOBODY, cmd=["true"]),
        client.Exec(container_id=NOBODY, cmd=["true"], stdout=True),
        client.Attach(container_id=NOBODY, stdout=True),
        client.PortForward(pod_sandbox_id=NOBODY),
    ):
        assert (await code_of(call))[0] == grpc.StatusCode.NOT_FOUND
    assert (await code_of(client.StopContainer(container_id=NOBODY)))[0] == grpc.StatusCode.OK
    assert (await code_of(client.RemoveContainer(container_id=NOBODY)))[0] == grpc.StatusCode.OK
    await client.StopPodSandbox(pod_sandbox_id=sandbox)
    late = container_config(["/bin/true"], name="late")
    assert (await code_of(create(config=late)))[0] == grpc.StatusCode.FAILED_PRECONDITION
    assert (await code_of(client.PortForward(pod_sandbox_id=sandbox)))[0] == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        ({"host_path": "/tmp", "recursive_read_only": True}, "not read-only"),
        (
            {
                "host_path": "/tmp",
                "readonly": True,
                "recursive_read_only": True,
                "propagation": wire.PROPAGATION_BIDIRECTIONAL,
            },
            "private propagation",
        ),
        ({"image": {"image": "podlite.local/host:1"}}, "read-only"),
        ({"image": {"image": "podlite.local/host:1"}, "host_path": "/tmp", "readonly": True}, "both"),
    ],
)
async def test_mounts_that_contradict_themselves(
    client: Client, layout: Layout, mount: dict[str, Any], sentence: str
) -> None:
    """Mount in api.proto: what each of these fields requires of the others."""
    sandbox, config = await client.sandbox(layout)
    made = container_config(["/bin/true"], mounts=[{"container_path": "/x", **mount}])
    call = client.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
    code, said = await code_of(call)
    assert (code, sentence in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        # A Bind without a path is the server's own directory to open_tree(2).
        ({"mounts": [{"container_path": "/x"}]}, "INVALID_ARGUMENT", "no absolute path"),
        ({"mounts": [{"container_path": "/x", "host_path": "tmp"}]}, "INVALID_ARGUMENT", "no absolute path"),
        ({"devices": [{"host_path": "/dev/null", "permissions": "rwx"}]}, "INVALID_ARGUMENT", "'rwx'"),
        ({"devices": [{"host_path": "/etc/passwd", "permissions": "r"}]}, "UNKNOWN", "not a device"),
        ({"working_dir": "/a\0b"}, "INVALID_ARGUMENT", "NUL"),
        ({"envs": [{"key": "A", "value": b"a\0b"}]}, "INVALID_ARGUMENT", "NUL"),
        ({"envs": [{"key": "A=B", "value": b""}]}, "INVALID_ARGUMENT", "'A=B'"),
        ({"linux": {"resources": {"oom_score_adj": -2000}}}, "INVALID_ARGUMENT", "-2000"),
        ({"linux": {"security_context": {"supplemental_groups": [-1]}}}, "INVALID_ARGUMENT", "-1"),
        (
            {"linux": {"security_context": {"seccomp": {"profile_type": 0, "localhost_ref": "/x.json"}}}},
            "INVALID_ARGUMENT",
            "only Localhost",
        ),
        # What podlite does not do is said; the container would be without its device, or its confinement.
        ({"CDI_devices": [{"name": "vendor.com/gpu=0"}]}, "UNIMPLEMENTED", "vendor.com/gpu=0"),
        ({"linux": {"security_context": {"apparmor": {"profile_type": 0}}}}, "FAILED_PRECONDITION", "AppArmor"),
        (
            {"linux": {"security_context": {"apparmor": {"profile_type": 2, "localhost_ref": "mine"}}}},
            "FAILED_PRECONDITION",
            "AppArmor",
        ),
    ],
)
async def test_what_no_container_can_have(
    client: Client, layout: Layout, fields: dict[str, Any], code: str, sentence: str
) -> None:
    sandbox, config = await client.sandbox(layout)
    made = container_config(["/bin/true"], **fields)
    call = client.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
    found, said = await code_of(call)
    assert (found.name, sentence in said) == (code, True), said
    assert not (await client.ListContainers()).containers


async def test_a_host_path_that_is_not_there_is_made(client: Client, layout: Layout, tmp_path: Path) -> None:
    """As containerd's WithMounts and docker have it: a directory, 0755."""
    sandbox, config = await client.sandbox(layout)
    script = "stat -c %F:%a:%u /x"
    mounts = [{"container_path": "/x", "host_path": f"{tmp_path}/a/b"}]
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script], mounts=mounts)
    assert (await exited(client, id)).exit_code == 0
    assert read_log(f"{config.log_directory}/main.log")["stdout"] == b"directory:755:0\n"
    assert (tmp_path / "a" / "b").is_dir()


async def test_bidirectional_needs_a_shared_mount(client: Client, layout: Layout, tmp_path: Path) -> None:
    """mount_namespaces(7): what is mounted on a private mount is passed on to nobody."""
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        sandbox, config = await client.sandbox(layout)
        for kind in ("private", "shared"):
            subprocess.run(["mount", f"--make-{kind}", tmp_path], check=True)
            made = container_config(
                ["/bin/sleep", "1000"],
                name=kind,
                mounts=[
                    {
                        "container_path": "/x",
                        "host_path": str(tmp_path),
                        "propagation": wire.PROPAGATION_BIDIRECTIONAL,
                    }
                ],
            )
            answer = await client.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
            code, said = await code_of(client.StartContainer(container_id=answer.container_id))
            assert (code == grpc.StatusCode.OK, "shared mount" in said) == (kind == "shared", kind == "private")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


async def test_a_directory_of_devices(client: Client, layout: Layout, tmp_path: Path) -> None:
    """containerd's and runc's: the device nodes in it, and in what lies in it."""
    (tmp_path / "deeper").mkdir()
    os.mknod(tmp_path / "zero", 0o020666, os.makedev(1, 5))
    os.mknod(tmp_path / "deeper" / "full", 0o020666, os.makedev(1, 7))
    (tmp_path / "file").touch()
    sandbox, config = await client.sandbox(layout)
    script = "cd /dev/ours && head -c 2 zero | od -An -tx1; find . -type c | sort"
    devices = [{"host_path": str(tmp_path), "container_path": "/dev/ours", "permissions": "rw"}]
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script], devices=devices)
    await exited(client, id)
    assert read_log(f"{config.log_directory}/main.log")["stdout"] == b" 00 00\n./deeper/full\n./zero\n"


async def test_a_start_that_fails(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    made = container_config(["/no/such/program"])
    answer = await client.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
    code, sentence = await code_of(client.StartContainer(container_id=answer.container_id))
    assert (code, "/no/such/program" in sentence) == (grpc.StatusCode.UNKNOWN, True)
    status = (await client.ContainerStatus(container_id=answer.container_id)).status
    # As containerd has it, and kubelets show it.
    assert (status.state, status.exit_code, status.reason) == (wire.CONTAINER_EXITED, 128, "StartError")


async def test_stopping_asks_first(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script])
    await client.StopContainer(container_id=id, timeout=60)
    assert (await client.ContainerStatus(container_id=id)).status.exit_code == 9
    id = await client.container(sandbox, config, ["/bin/sh", "-c", "trap '' TERM; sleep 1000"], name="stubborn")
    await client.StopContainer(container_id=id, timeout=0)
    assert (await client.ContainerStatus(container_id=id)).status.exit_code == 137


async def test_a_stop_that_is_asked_for_again(client: Client, layout: Layout) -> None:
    """containerd's stopContainer (IsStopSignaledWithTimeout): the signal is sent once; the last call's time counts."""
    sandbox, config = await client.sandbox(layout)
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.01; done"
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script])
    path = f"{config.log_directory}/main.log"
    await logged(path, b"ready\n")
    call = client.StopContainer(container_id=id, timeout=600)
    await logged(path, b"ready\nasked\n")
    call.cancel()
    await client.StopContainer(container_id=id, timeout=1)
    assert (await client.ContainerStatus(container_id=id)).status.exit_code == 137
    assert read_log(path)["stdout"] == b"ready\nasked\n"


async def test_removals_at_a_time(client: Client, layout: Layout) -> None:
    """One that does not work keeps no other waiting, and can be tried again: rename(2), EBUSY of a mount point."""
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    await client.StopContainer(container_id=id)
    path = f"{layout.containers_dir}/{id}"
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        codes: list[grpc.StatusCode] = []

        async def remove() -> None:
            codes.append((await code_of(client.RemoveContainer(container_id=id)))[0])

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(remove)
        assert codes == [grpc.StatusCode.UNKNOWN] * 3
        assert [each.id for each in (await client.ListContainers()).containers] == [id]
    finally:
        subprocess.run(["umount", path], check=True)
    await client.RemoveContainer(container_id=id)
    assert not (await client.ListContainers()).containers


async def test_containers_that_are_made_while_their_sandbox_goes(
    client: Client, layout: Layout, runtime: Runtime
) -> None:
    """Each is there for the removal, or is refused and leaves nothing: none is left without its sandbox."""
    for attempt in range(8):
        sandbox, config = await client.sandbox(layout, f"pod{attempt}")
        codes: list[grpc.StatusCode] = []

        async def create(number: int, sandbox: str = sandbox, config: Any = config, codes: Any = codes) -> None:
            made = container_config(["/bin/true"], name=f"c{number}")
            call = client.CreateContainer(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
            codes.append((await code_of(call))[0])

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(create, number)
            await anyio.sleep(0.002 * attempt)  # somewhere in the middle
            await client.RemovePodSandbox(pod_sandbox_id=sandbox)
        # UNKNOWN: its directory went while it was made in it.
        allowed = {"OK", "NOT_FOUND", "FAILED_PRECONDITION", "UNKNOWN"}
        assert len(codes) == 6
        assert {code.name for code in codes} <= allowed
        assert not (await client.ListContainers()).containers
        assert not runtime.store.containers
        assert os.listdir(layout.containers_dir) == []


async def test_the_stop_signal_of_the_pod(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    script = "trap 'exit 42' USR1; echo ready; while :; do sleep 0.01; done"
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script], stop_signal=wire.SIGUSR1)
    assert (await client.ContainerStatus(container_id=id)).status.stop_signal == wire.SIGUSR1
    await client.StopContainer(container_id=id, timeout=60)
    assert (await client.ContainerStatus(container_id=id)).status.exit_code == 42


async def test_exec_sync(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    answer = await client.ExecSync(container_id=id, cmd=["/bin/sh", "-c", "echo out; echo err >&2; exit 5"])
    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 5)
    # pkg/kubelet/prober takes this code, and no other, for a probe that timed out.
    code, _ = await code_of(client.ExecSync(container_id=id, cmd=["/bin/sleep", "1000"], timeout=1))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    answer = await client.ExecSync(container_id=id, cmd=["/bin/sh", "-c", "pgrep -cx sleep"])
    assert answer.stdout == b"1\n", "the process that took too long is still there"
    for cmd in ([], ["/bin/echo", "a\0b"]):
        code, _ = await code_of(client.ExecSync(container_id=id, cmd=cmd))
        assert code == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_exec_that_meets_the_containers_end(client: Client, layout: Layout) -> None:
    """However far the end has come, the answer is that the container does not run, as for one that has long ended."""
    sandbox, config = await client.sandbox(layout)
    for number in range(8):
        # Several processes, for then the first one stands in its end until the others are gone.
        script = "sleep 1000 & sleep 1000 & sleep 1000 & sleep 0.2"
        id = await client.container(sandbox, config, ["/bin/sh", "-c", script], name=f"c{number}")
        codes: set[grpc.StatusCode] = set()

        async def execs(id: str, codes: set[grpc.StatusCode]) -> None:
            while True:
                try:
                    assert (await client.ExecSync(container_id=id, cmd=["/bin/true"])).exit_code in (0, 137)
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())
                    return

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(execs, id, codes)
        assert codes == {grpc.StatusCode.FAILED_PRECONDITION}


async def test_exec_sync_discards_what_is_too_much(client: Client, layout: Layout) -> None:
    """ "The runtime should cap the output of this response to 16MB … with no error" (api.proto, CVE-2022-1708)."""
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    script = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; exit 6"
    answer = await client.ExecSync(container_id=id, cmd=["/bin/sh", "-c", script])
    assert answer.exit_code == 6
    assert 15_000_000 < len(answer.stdout) + len(answer.stderr) <= 16 << 20


async def test_resources_change_while_it_runs(client: Client, layout: Layout, runtime: Runtime) -> None:
    sandbox, config = await client.sandbox(layout)
    linux = {
        "resources": {"cpu_shares": 512, "memory_limit_in_bytes": 64 << 20},
        "security_context": {"namespace_options": {"pid": wire.CONTAINER}},
    }
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"], linux=linux)
    await client.UpdateContainerResources(container_id=id, linux={"memory_limit_in_bytes": 128 << 20})
    limits = (await client.ContainerStatus(container_id=id)).status.resources.linux
    assert (limits.cpu_shares, limits.memory_limit_in_bytes) == (512, 128 << 20)
    if runtime.cgroups is not None:
        assert runtime.cgroups.stats(runtime.store.containers[id].cgroup).memory_limit == 128 << 20
    await client.UpdatePodSandboxResources(pod_sandbox_id=sandbox, resources={"cpu_shares": 2048})


async def test_a_rotated_log_is_opened_anew(client: Client, layout: Layout) -> None:
    """The kubelet renames the file and then calls (pkg/kubelet/logs): what follows is in a new one."""
    sandbox, config = await client.sandbox(layout)
    script = "echo before; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo after; sleep 1000"
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script])
    path = f"{config.log_directory}/main.log"
    await logged(path, b"before\n")
    os.rename(path, f"{path}.old")
    await client.ReopenContainerLog(container_id=id)
    await client.ExecSync(container_id=id, cmd=["/bin/sh", "-c", "mkdir -p /tmp; : > /tmp/go"])
    await logged(path, b"after\n")
    assert read_log(f"{path}.old")["stdout"] == b"before\n"


async def test_checkpoints_are_not_implemented(client: Client, layout: Layout) -> None:
    """A kubelet takes this code for a runtime that cannot, and says so (pkg/kubelet/server: checkpoint)."""
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    code, _ = await code_of(client.CheckpointContainer(container_id=id, location="/tmp/x"))
    assert code == grpc.StatusCode.UNIMPLEMENTED


async def test_stats(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    script = "head -c 1000000 /dev/zero > /written; echo ready; exec sleep 1000"
    id = await client.container(sandbox, config, ["/bin/sh", "-c", script], labels={"a": "b"})
    path = f"{config.log_directory}/main.log"
    with anyio.fail_after(60):
        while not read_log(path)["stdout"]:
            await anyio.sleep(0.01)
    stats = (await client.ContainerStats(container_id=id)).stats
    assert stats.attributes.id == id
    assert (stats.attributes.metadata.name, dict(stats.attributes.labels)) == ("main", {"a": "b"})
    assert stats.cpu.timestamp > 0
    assert stats.cpu.usage_core_nano_seconds.value > 0
    assert 0 < stats.memory.working_set_bytes.value <= stats.memory.usage_bytes.value
    assert stats.writable_layer.used_bytes.value >= 1_000_000
    assert stats.writable_layer.inodes_used.value >= 1

    async def ids(**filter: Any) -> list[str]:
        return [each.attributes.id for each in (await client.ListContainerStats(filter=filter)).stats]

    assert await ids() == await ids(id=id) == await ids(label_selector={"a": "b"}) == [id]
    assert await ids(label_selector={"a": "c"}) == await ids(pod_sandbox_id=NOBODY) == []
    pages = [each async for each in client.StreamContainerStats()]
    assert [each.attributes.id for page in pages for each in page.container_stats] == [id]


async def test_sandbox_stats(client: Client, layout: Layout) -> None:
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    stats = (await client.PodSandboxStats(pod_sandbox_id=sandbox)).stats
    assert (stats.attributes.id, stats.attributes.metadata) == (sandbox, config.metadata)
    assert [each.attributes.id for each in stats.linux.containers] == [id]
    assert stats.linux.memory.working_set_bytes.value > 0
    assert stats.linux.cpu.usage_core_nano_seconds.value > 0
    (listed,) = (await client.ListPodSandboxStats(filter={"label_selector": {"app": "pod"}})).stats
    assert listed.attributes.id == sandbox
    pages = [each async for each in client.StreamPodSandboxStats()]
    assert [each.attributes.id for page in pages for each in page.pod_sandbox_stats] == [sandbox]


async def test_metrics_have_the_labels_that_their_descriptors_name(client: Client, layout: Layout) -> None:
    """KEP-2371: every metric is described, and its label values are as many as its label keys."""
    sandbox, config = await client.sandbox(layout)
    id = await client.container(sandbox, config, ["/bin/sleep", "1000"])
    described = {each.name: each for each in (await client.ListMetricDescriptors()).descriptors}
    assert all(each.help and each.label_keys for each in described.values())
    (found,) = (await client.ListPodSandboxMetrics()).pod_metrics
    assert found.pod_sandbox_id == sandbox
    (container,) = found.container_metrics
    assert container.container_id == id
    samples = [*found.metrics, *container.metrics]
    for sample in samples:
        assert len(sample.label_values) == len(described[sample.name].label_keys), sample.name
    values = {sample.name: sample.value.value for sample in samples}
    assert values["container_processes"] == values["container_threads"] == 1
    assert values["container_memory_usage_bytes"] > 0
    pages = [each async for each in client.StreamPodSandboxMetrics()]
    assert [each.pod_sandbox_id for page in pages for each in page.pod_sandbox_metrics] == [sandbox]


async def test_events_tell_of_everything_in_order(client: Client, layout: Layout) -> None:
    events: list[tuple[str, int]] = []
    seen = anyio.Event()
    subscribed = client.GetContainerEvents(within=None)

    async def read() -> None:
        async for event in subscribed:
            events.append((event.container_id, event.container_event_type))
            if event.container_event_type == wire.CONTAINER_DELETED_EVENT and event.container_id == sandbox:
                assert event.created_at > 0
                seen.set()
                return

    async with anyio.create_task_group() as tasks:
        # A call whose answer is here was received after the subscription that was sent before it.
        await subscribed.wait_for_connection()
        await client.Version()
        sandbox, config = await client.sandbox(layout)
        tasks.start_soon(read)
        id = await client.container(sandbox, config, ["/bin/true"])
        await exited(client, id)
        await client.RemoveContainer(container_id=id)
        await client.StopPodSandbox(pod_sandbox_id=sandbox)
        await client.RemovePodSandbox(pod_sandbox_id=sandbox)
        with anyio.fail_after(60):
            await seen.wait()
    assert events == [
        (sandbox, wire.CONTAINER_STARTED_EVENT),
        (id, wire.CONTAINER_CREATED_EVENT),
        (id, wire.CONTAINER_STARTED_EVENT),
        (id, wire.CONTAINER_STOPPED_EVENT),
        (id, wire.CONTAINER_DELETED_EVENT),
        (sandbox, wire.CONTAINER_STOPPED_EVENT),
        (sandbox, wire.CONTAINER_DELETED_EVENT),
    ]
