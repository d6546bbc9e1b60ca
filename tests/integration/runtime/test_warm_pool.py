"""The pool of ready sandboxes: what is claimed is as good as new, and nothing of it stays."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from podlite import steps
from podlite.cri.types import DNSConfig, NamespaceMode, NamespaceOption, PodSandboxConfig, PortMapping
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.journal import load
from podlite.runtime.layout import Layout
from podlite.runtime.network.none import NoneNetwork
from podlite.runtime.sandbox import files
from podlite.runtime.sandbox.pool import WarmPool
from podlite.runtime.service import Runtime
from podlite.runtime.store import Sandbox
from tests.support.containers import sandbox_config
from tests.support.leaks import processes_titled

pytestmark = [pytest.mark.root, pytest.mark.anyio]

SIZE = 2


@pytest.fixture
async def runtime(layout: Layout, anyio_backend: str) -> AsyncIterator[Runtime]:
    async with Runtime(layout, network=NoneNetwork(), warm_pool=SIZE) as opened:
        yield opened
    assert os.listdir(layout.pods_dir) == []
    assert os.listdir(layout.netns_dir) == []
    assert not [title for _, title in processes_titled("podlite: shim")]


async def filled(runtime: Runtime) -> WarmPool:
    assert runtime.pool is not None
    await runtime.pool.resize(SIZE)
    return runtime.pool


def hostname_in(sandbox: Sandbox) -> str:
    """What the pod's uts namespace says, by way of the shim that holds it."""
    assert sandbox.shim is not None
    for fd in os.listdir(f"/proc/{sandbox.shim.pid}/fd"):
        path = f"/proc/{sandbox.shim.pid}/fd/{fd}"
        try:
            if os.readlink(path).startswith("uts:"):
                break
        except OSError:
            continue
    else:
        raise AssertionError("the shim holds no uts namespace")
    pid = os.fork()
    if pid == 0:
        try:
            from podlite.linux.syscalls import CLONE_NEWUTS, setns

            setns(os.open(path, os.O_RDONLY), CLONE_NEWUTS)
            os._exit(0 if os.uname().nodename == sandbox.config.hostname else 1)
        except BaseException:
            os._exit(2)
    return sandbox.config.hostname if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else ""


async def test_what_is_claimed_is_the_pods(runtime: Runtime, layout: Layout) -> None:
    pool = await filled(runtime)
    config = sandbox_config(runtime, "claimed")
    id = await runtime.run_pod_sandbox(config)
    assert (pool.hits, pool.misses) == (1, 0)
    sandbox = runtime.store.sandbox(id)
    uid = config.metadata.uid
    assert sandbox.directory == f"{layout.pods_dir}/{uid}"
    with open(f"{sandbox.directory}/hostname") as file:
        assert file.read().strip() == config.hostname
    header = load(f"{sandbox.directory}/{RECORD}")[0]
    assert header["config"]["metadata"]["uid"] == uid
    assert header["sandbox"] == id
    status = await runtime.pod_sandbox_status(id)
    assert status.metadata == config.metadata
    assert [each.metadata.name for each in await runtime.list_pod_sandbox()] == ["claimed"]
    # The shim has the hostname by the time that it has answered anything that was asked later.
    assert sandbox.shim is not None
    await sandbox.shim.request({"m": "status"})
    assert hostname_in(sandbox) == config.hostname
    assert f"podlite: shim {sandbox.pod}" in [title for _, title in processes_titled("podlite: shim")]
    await runtime.remove_pod_sandbox(id)
    assert not os.path.exists(sandbox.directory)
    assert not os.path.exists(sandbox.netns_path)


@pytest.mark.parametrize("changed", [False, True])
async def test_its_files_are_the_pods(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    """As a sandbox made new has them, and as the host's are when the pod comes, not when the spare was made."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n192.0.2.1 a-long-name-that-goes-away\n")
    monkeypatch.setattr(files, "_HOSTS", str(hosts))
    async with Runtime(layout, network=NoneNetwork(), warm_pool=SIZE) as runtime:
        pool = await filled(runtime)
        if changed:
            hosts.write_text("127.0.0.1 localhost\n")
        config = sandbox_config(runtime, "claimed")
        config.dns_config = DNSConfig(servers=["192.0.2.53"], searches=["example.org"], options=["ndots:5"])
        directory = runtime.store.sandbox(await runtime.run_pod_sandbox(config)).directory
        assert pool.hits == 1
        found = {name: Path(directory, name).read_text() for name in ("resolv.conf", "hostname", "hosts")}
    # resolv.conf(5), hostname(5)
    assert found == {
        "resolv.conf": "search example.org\nnameserver 192.0.2.53\noptions ndots:5\n",
        "hostname": f"{config.hostname}\n",
        "hosts": hosts.read_text(),
    }


async def test_it_is_filled_again(runtime: Runtime) -> None:
    pool = await filled(runtime)
    ids = [await runtime.run_pod_sandbox(sandbox_config(runtime, f"pod-{number}")) for number in range(SIZE)]
    await pool.resize(SIZE)
    ids.append(await runtime.run_pod_sandbox(sandbox_config(runtime, "one-more")))
    assert (pool.hits, pool.misses) == (SIZE + 1, 0)
    assert len(set(ids)) == SIZE + 1


async def test_the_kubelets_directory_of_the_pod_may_be_there(runtime: Runtime, layout: Layout) -> None:
    await filled(runtime)
    config = sandbox_config(runtime, "with-files")
    os.mkdir(f"{layout.pods_dir}/{config.metadata.uid}")
    with open(f"{layout.pods_dir}/{config.metadata.uid}/pod.json", "w"):
        pass
    id = await runtime.run_pod_sandbox(config)
    directory = runtime.store.sandbox(id).directory
    # As a later attempt's is called: whoever looks for a pod's sandboxes finds it.
    assert directory == f"{layout.pods_dir}/{config.metadata.uid}.0"
    await runtime.remove_pod_sandbox(id)
    os.unlink(f"{layout.pods_dir}/{config.metadata.uid}/pod.json")
    os.rmdir(f"{layout.pods_dir}/{config.metadata.uid}")


def on_the_hosts_network(config: PodSandboxConfig) -> None:
    assert config.linux is not None and config.linux.security_context is not None
    options = NamespaceOption(network=NamespaceMode.NODE, pid=NamespaceMode.CONTAINER)
    config.linux.security_context.namespace_options = options
    config.hostname = ""


def with_a_sysctl(config: PodSandboxConfig) -> None:
    assert config.linux is not None
    config.linux.sysctls = {"kernel.msgmax": "8192"}


def with_another_network(config: PodSandboxConfig) -> None:
    config.annotations = {"podlite.local/network": "host"}


@pytest.mark.parametrize("change", [on_the_hosts_network, with_a_sysctl, with_another_network])
async def test_what_a_spare_cannot_be_is_made_new(runtime: Runtime, change: object) -> None:
    pool = await filled(runtime)
    config = sandbox_config(runtime, "special")
    assert callable(change)
    change(config)
    id = await runtime.run_pod_sandbox(config)
    assert (pool.hits, pool.misses) == (0, 1)
    assert (await runtime.pod_sandbox_status(id)).metadata == config.metadata


async def test_a_spare_whose_shim_was_killed_is_passed_over(runtime: Runtime) -> None:
    pool = await filled(runtime)
    spare = pool._spares[0]
    assert spare.shim is not None
    os.kill(spare.shim.pid, signal.SIGKILL)
    await spare.shim.wait_gone()
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, "lucky"))
    assert id != spare.id
    assert pool.hits == 1
    while os.path.exists(spare.directory):
        await anyio.sleep(0.001)


async def test_a_claim_that_fails_costs_the_spare_and_not_the_pod(runtime: Runtime) -> None:
    pool = await filled(runtime)
    spare = pool._spares[0]
    steps.inject("sandbox.claim", "1*error(EIO)")
    try:
        id = await runtime.run_pod_sandbox(sandbox_config(runtime, "unlucky"))
    finally:
        steps.clear_faults()
    assert (pool.hits, pool.misses) == (0, 1)
    assert id != spare.id
    assert not os.path.exists(spare.directory)
    assert not os.path.exists(spare.netns_path)


async def test_a_pool_that_cannot_be_filled_stops_nobody(layout: Layout) -> None:
    steps.inject("sandbox.spare", "1*error(ENOSPC)")
    try:
        async with Runtime(layout, network=NoneNetwork(), warm_pool=1) as runtime:
            assert runtime.pool is not None
            await runtime.run_pod_sandbox(sandbox_config(runtime, "cold"))
            assert (runtime.pool.hits, runtime.pool.misses) == (0, 1)
            # It tries again.
            await runtime.pool.resize(1)
            await runtime.run_pod_sandbox(sandbox_config(runtime, "warm"))
            assert runtime.pool.hits == 1
    finally:
        steps.clear_faults()
    assert os.listdir(layout.pods_dir) == []


async def test_a_cancelled_claim_leaves_nothing(runtime: Runtime) -> None:
    pool = await filled(runtime)
    spare = pool._spares[0]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await runtime.run_pod_sandbox(sandbox_config(runtime, "cancelled"))
    assert not os.path.exists(spare.directory)
    assert runtime.store.sandboxes == {}
    # The name is free again.
    await runtime.run_pod_sandbox(sandbox_config(runtime, "cancelled"))


async def test_host_ports_are_not_a_spares(runtime: Runtime) -> None:
    from podlite.runtime.sandbox.pool import fits

    config = sandbox_config(runtime, "ports")
    assert fits(config)
    config.port_mappings = [PortMapping(container_port=80, host_port=8080)]
    assert not fits(config)
