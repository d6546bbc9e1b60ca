"""CNI behind whole sandboxes: cancelled, killed, reaped by somebody else, and said in events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from cni_networks import PLUGINS, PORTMAP, bridge, calls, needs_plugins, write_network, write_plugin
from network_hosts import Host, sh, wait_for

from podlite.cri.types import PodSandboxConfig, PodSandboxMetadata
from podlite.runtime.layout import Layout
from podlite.runtime.network.cni.network import CNINetwork
from podlite.runtime.service import Runtime
from tests.support.cgroup_roots import own_root, remove_root

RESULT = '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.77/24"}]}'


def directories(host: Host) -> list[str]:
    return [f"--{name}-dir={host.run_dir}/{name}" for name in ("run", "state", "log", "netns")]


def podlite(host: Host, *words: str, faults: str = "") -> subprocess.CompletedProcess[str]:
    """A command of its own, in the host that the test plays."""
    environ = {**os.environ, "PODLITE_FAULTS": faults}
    command = [sys.executable, "-m", "podlite", words[0], *directories(host), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def cni_words(host: Host) -> list[str]:
    return [
        "--network=cni",
        f"--cni-conf-dir={host.run_dir}/net.d",
        f"--cni-bin-dir={host.run_dir}/bin",
        f"--cni-bin-dir={PLUGINS}",
    ]


RUN = ["--image", "podlite.local/host:1", "--", "true"]


def leftovers(host: Host) -> list[str]:
    """What is left with us, with host-local and in the kernel."""
    found = [str(path) for path in Path(host.run_dir, "state/cni/results").glob("*")]
    found += [str(path) for path in Path(host.run_dir, "leases").glob("*/[0-9f]*")]
    found += [str(path) for path in Path(host.run_dir, "run/pods").glob("*/record")]
    found += [name for name in os.listdir(f"{host.run_dir}/netns") if name.startswith("cni-")]
    return found


@needs_plugins
def test_a_run_on_cni(host: Host) -> None:
    write_network(host.run_dir, bridge(host.run_dir), PORTMAP)
    done = podlite(host, "run", *cni_words(host), "--image", "podlite.local/host:1", "--", "ip", "-br", "address")
    assert done.returncode == 0, done.stderr
    assert "10.88.0.2/16" in done.stdout and "fd88::2/64" in done.stdout
    assert leftovers(host) == []


@needs_plugins
@pytest.mark.parametrize("step", ["sandbox.confirm", "container.create"])
def test_killed_with_its_network_made_and_reaped_by_the_next(host: Host, step: str) -> None:
    """kill -9 between ADD and the record of it, and later. Whoever reaps need not be told where the plugins are."""
    write_network(host.run_dir, bridge(host.run_dir), PORTMAP)
    done = podlite(host, "run", *cni_words(host), *RUN, faults=f"{step}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert leftovers(host)
    done = podlite(host, "prune")
    assert done.returncode == 0, done.stderr
    assert leftovers(host) == []
    wait_for(lambda: "veth" not in sh("ip -o link"), "the veth pair gone")


@needs_plugins
def test_killed_with_several_networks_and_reaped(host: Host) -> None:
    write_network(host.run_dir, bridge(host.run_dir), name="extra")
    manifest = Path(host.run_dir, "pod.yaml")
    manifest.write_text(
        """
apiVersion: v1
kind: Pod
metadata: {name: multi, annotations: {k8s.v1.cni.cncf.io/networks: extra}}
spec: {restartPolicy: Never, containers: [{name: c, image: "podlite.local/host:1", command: ["true"]}]}
"""
    )
    words = [word for word in cni_words(host) if not word.startswith("--network")]
    assert podlite(host, "run", *words, str(manifest)).returncode == 0
    assert leftovers(host) == []
    done = podlite(host, "run", *words, str(manifest), faults="sandbox.confirm=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert leftovers(host)
    assert podlite(host, "prune").returncode == 0
    assert leftovers(host) == []
    assert "podlite" not in sh("nft list tables")


def test_all_that_a_plugin_said_is_in_the_event(host: Host) -> None:
    write_plugin(
        host.run_dir,
        "bad",
        "[ $CNI_COMMAND = DEL ] && exit 0; echo the reason is in line 1 >&2; echo and 2 >&2; exit 1",
    )
    write_network(host.run_dir, {"type": "bad"})
    done = podlite(host, "run", *cni_words(host), *RUN)
    assert done.returncode == 125
    assert "FailedCreatePodSandBox" in done.stderr
    assert "the reason is in line 1" in done.stderr and "and 2" in done.stderr
    assert leftovers(host) == []


@pytest.fixture
async def hanging(host: Host) -> AsyncIterator[Runtime]:
    """A runtime whose network hangs at ADD, and would for the plugins' 30 seconds."""
    bin_dir = write_plugin(host.run_dir, "hangs", "[ $CNI_COMMAND = DEL ] && exit 0; exec sleep 1000")
    conf_dir = write_network(host.run_dir, {"type": "hangs"})
    layout = Layout(
        run_dir=f"{host.run_dir}/run",
        state_dir=f"{host.run_dir}/state",
        log_dir=f"{host.run_dir}/log",
        netns_dir=f"{host.run_dir}/netns",
        cgroup_root=own_root(),
    )
    network = CNINetwork(layout.run_dir, layout.state_dir, conf_dir=conf_dir, bin_dirs=[bin_dir])
    async with Runtime(layout, network=network, namespace_threads=2) as runtime:
        yield runtime
    remove_root(layout.cgroup_root)


@pytest.mark.anyio
async def test_cancelled_while_a_plugin_hangs(hanging: Runtime, host: Host) -> None:
    """The plugin is killed, DEL is done, nothing is left, and the next sandbox is not in the way of anything."""
    for turn in range(2):
        config = PodSandboxConfig(metadata=PodSandboxMetadata(name="a", uid=f"u{turn}", namespace="default"))
        before = len(calls(host.run_dir, "hangs"))
        begun = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hanging.run_pod_sandbox, config)
            while len(calls(host.run_dir, "hangs")) == before:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert time.monotonic() - begun < 20, "not the plugin's own time limit"
        commands = [command for command, _ in calls(host.run_dir, "hangs")[before:]]
        assert commands[0] == "ADD" and set(commands[1:]) == {"DEL"}
        assert leftovers(host) == []
        assert hanging.store.sandboxes == {}
