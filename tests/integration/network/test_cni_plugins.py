"""CNI with the ecosystem's own plugins (Debian's containernetworking-plugins), and with plugins that misbehave."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cni_networks import (
    PLUGINS,
    PORTMAP,
    bridge,
    calls,
    lacking,
    make_cni,
    needs_plugins,
    ptp,
    write_network,
    write_plugin,
)
from network_hosts import OUTSIDE4, Host, Pod, ask, new_host, refused, serving, sh, wait_for

from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.cri.types import PortMapping
from podlite.linux import netns
from podlite.runtime.network.cni.errors import ConfigError, PluginError, PluginMissingError
from podlite.runtime.network.errors import NetworkTeardownError

RESULT = '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.77/24"}]}'


@contextmanager
def cni_host(run_dir: str, *plugins: dict[str, Any], uplink: bool = False, **options: Any) -> Iterator[Host]:
    with new_host(run_dir, uplink=uplink, make=lambda run_dir: make_cni(run_dir, *plugins, **options)) as host:
        sh("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield host


def no_traces(host: Host) -> None:
    """Nothing of a pod is left with us, with host-local, or in the kernel."""
    assert list(Path(host.run_dir, "state/cni/results").glob("*")) == []
    assert [path.name for path in Path(host.run_dir, "leases").glob("*/[0-9f]*")] == []
    assert list(Path(host.run_dir, "network/hostports").glob("*")) == []
    wait_for(lambda: "veth" not in sh("ip -o link"), "the veth pairs gone")


def supported(plugin: str) -> list[str]:
    """What a plugin says to VERSION."""
    environ = {"CNI_COMMAND": "VERSION"}
    done = subprocess.run([f"{PLUGINS}/{plugin}"], env=environ, input=b"{}", capture_output=True, check=True)
    versions: list[str] = json.loads(done.stdout)["supportedVersions"]
    return versions


# --- the matrix -----------------------------------------------------------------------------------

TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "mtu": 1400, "capabilities": {"mac": True}}
BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
FIREWALL = {"type": "firewall", "backend": "iptables"}


def static(run_dir: str) -> dict[str, Any]:
    """Addresses that the pod asks for itself."""
    ipam = {
        "type": "static",
        "addresses": [{"address": "10.88.0.40/16", "gateway": "10.88.0.1"}, {"address": "fd88::40/64"}],
    }
    return bridge(run_dir, ipam=ipam)


MATRIX: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "bridge": lambda run_dir: [bridge(run_dir)],
    "bridge-ipv4": lambda run_dir: [bridge(run_dir, "10.88.0.0/16")],
    "bridge-ipv6": lambda run_dir: [bridge(run_dir, "fd88::/64")],
    "ptp": lambda run_dir: [ptp(run_dir)],
    "static": lambda run_dir: [static(run_dir)],
    "portmap": lambda run_dir: [bridge(run_dir), PORTMAP],
    "firewall": lambda run_dir: [bridge(run_dir), FIREWALL],
    "tuning": lambda run_dir: [bridge(run_dir), TUNING],
    "bandwidth": lambda run_dir: [ptp(run_dir), BANDWIDTH],
    "all": lambda run_dir: [bridge(run_dir), TUNING, PORTMAP, FIREWALL, BANDWIDTH],
}
_NEEDS = {
    "bandwidth": lacking(
        "ifb device or tbf", "ip link add i0 type ifb && tc qdisc add dev lo root tbf rate 1mbit burst 1mb latency 1s"
    ),
    "all": lacking(
        "ifb device or tbf", "ip link add i0 type ifb && tc qdisc add dev lo root tbf rate 1mbit burst 1mb latency 1s"
    ),
}


# firewall supports 0.4.0 and newer; of bridge the plugins' own age says what there is.
PAIRS = [
    (name, version)
    for version in (supported("bridge") if PLUGINS else ())
    for name in MATRIX
    if version in ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
    and (version, name) not in (("0.3.1", "firewall"), ("0.3.1", "all"))
]
if os.environ.get("PODLITE_MATRIX") != "full":
    # Each configuration once, with the newest version; each version with what has the most and with what has the least.
    PAIRS = [pair for pair in PAIRS if pair[1] == PAIRS[-1][1] or pair[0] in ("bridge", "all")]


@needs_plugins
@pytest.mark.parametrize(("name", "version"), [pytest.param(*pair, marks=_NEEDS.get(pair[0], ())) for pair in PAIRS])
def test_the_matrix(run_dir: str, name: str, version: str) -> None:
    """ADD, traffic, CHECK where the version has it, DEL, and nothing left."""
    plugins = MATRIX[name](run_dir)
    with cni_host(run_dir, *plugins) as host:
        write_network(run_dir, *plugins, cniVersion=version)
        options: dict[str, Any] = {}
        if "bandwidth" in name or name == "all":
            options["annotations"] = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "10M"}
        ports = [PortMapping(host_port=18080, container_port=80)] if name in ("portmap", "all") else []
        pod = host.pod(*ports, **options)
        assert pod.record["attachments"][0]["version"] == version
        listed = {each["local"] for link in json.loads(pod.sh("ip -j addr show eth0")) for each in link["addr_info"]}
        assert set(pod.status.ips) <= listed
        # A bridge with its first port looks whether somebody else has its addresses (DAD), and until then has none.
        wait_for(lambda: "tentative" not in sh("ip -6 address"), "the addresses of the host's end")
        for ip in pod.status.ips:
            any_address = "::" if ":" in ip else "0.0.0.0"
            with serving(pod.fd, "pod", any_address, 80, 1):
                assert ask(host.own, ip, 80).startswith("pod|")
        if name in ("tuning", "all"):
            assert pod.sh("cat /proc/sys/net/core/somaxconn") == "500\n"
            assert "mtu 1400" in pod.sh("ip link show eth0")
        if name in ("bandwidth", "all"):
            assert "tbf" in sh("tc qdisc show")
        # CHECK by portmap 1.1 looks for every rule in the tables of both families, and so never is content.
        problems = host.network.check_pod_network(pod.record)
        assert all(ports and "could not check ipv6 dnat" in each for each in problems), problems
        pod.remove()
        no_traces(host)
        for ip in pod.status.ips:
            assert f"{ip}/" not in sh("iptables-save; ip6tables-save")


@needs_plugins
@lacking("macvlan", "ip link add d0 type veth peer name d1 && ip link add link d0 name m0 type macvlan mode bridge")
def test_macvlan(run_dir: str) -> None:
    ranges = [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.128"}]]
    ipam = {"type": "host-local", "ranges": ranges, "dataDir": f"{run_dir}/leases"}
    with cni_host(run_dir, {"type": "macvlan", "master": "up0", "mode": "bridge", "ipam": ipam}, uplink=True) as host:
        pod = host.pod()
        assert host.outside is not None
        with serving(host.outside, "outside", OUTSIDE4, 0, 1) as server:
            assert ask(pod.fd, OUTSIDE4, server.port) == f"outside|{pod.ip4}", "directly, without the host's help"
        assert host.network.check_pod_network(pod.record) == []
        pod.remove()
        no_traces(host)


@needs_plugins
def test_check_finds_what_has_changed(run_dir: str) -> None:
    with cni_host(run_dir, bridge(run_dir)) as host:
        pod = host.pod()
        pod.sh("ip address flush dev eth0")
        [problem] = host.network.check_pod_network(pod.record)
        assert problem.startswith(f"CHECK by the CNI plugin {PLUGINS}/bridge, network testnet, failed:")
        write_network(run_dir, bridge(run_dir), disableCheck=True)
        other = host.pod()
        other.sh("ip address flush dev eth0")
        assert host.network.check_pod_network(other.record) == []


@needs_plugins
def test_a_hundred_pods_in_parallel(run_dir: str) -> None:
    with cni_host(run_dir, bridge(run_dir), PORTMAP) as host:
        pods: list[Pod] = []
        errors: list[BaseException] = []
        numbers = iter(range(100))

        def work() -> None:
            for number in numbers:
                try:
                    pods.append(host.pod(PortMapping(host_port=20000 + number, container_port=80)))
                except BaseException as error:
                    errors.append(error)

        for action in (work, lambda: _remove_all(pods, errors)):
            threads = [threading.Thread(target=action) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if action is work:
                assert not errors
                assert len({ip for pod in pods for ip in pod.status.ips}) == 200
                with serving(pods[99].fd, "last", "0.0.0.0", 80, 1):
                    assert ask(pods[0].fd, pods[99].ip4, 80) == f"last|{pods[0].ip4}"
        assert not errors
        no_traces(host)


def _remove_all(pods: list[Pod], errors: list[BaseException]) -> None:
    while True:
        try:
            pod = pods.pop()
        except IndexError:
            return
        try:
            pod.host.network.teardown_pod_network(pod.record)
            pod.close()
        except BaseException as error:
            errors.append(error)


# --- what goes to the plugins ---------------------------------------------------------------------


def test_the_chain(run_dir: str) -> None:
    """The order of ADD, of DEL in reverse, and the results that each gets (SPEC.md section 3)."""
    for name, ip in (("one", "192.0.2.1/24"), ("two", "192.0.2.2/24")):
        answer = f'{{"cniVersion": "1.0.0", "ips": [{{"address": "{ip}"}}]}}'
        bin_dir = write_plugin(
            run_dir, name, f"echo {name} >> {run_dir}/order; [ $CNI_COMMAND != ADD ] || echo '{answer}'"
        )
    with cni_host(run_dir, {"type": "one"}, {"type": "two", "x": 1}, bin_dirs=(bin_dir,)) as host:
        pod = host.pod()
        assert pod.status.ips == ["192.0.2.2"]
        host.network.check_pod_network(pod.record)
        pod.remove()
    assert Path(run_dir, "order").read_text().split() == ["one", "two", "one", "two", "two", "one"]
    one, two = calls(run_dir, "one"), calls(run_dir, "two")
    assert [command for command, _ in one] == [command for command, _ in two] == ["ADD", "CHECK", "DEL"]
    first = {"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.1/24"}]}
    last = {"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.2/24"}]}
    assert [request.get("prevResult") for _, request in one] == [None, last, last]
    assert [request.get("prevResult") for _, request in two] == [first, last, last]
    assert two[0][1] == {"cniVersion": "1.0.0", "name": "testnet", "type": "two", "x": 1, "prevResult": first}


@pytest.mark.parametrize(("version", "given"), [("0.3.0", False), ("0.3.1", False), ("0.4.0", True), ("1.1.0", True)])
def test_deletions_have_the_result_since_0_4_0(run_dir: str, version: str, given: bool) -> None:
    """The specification's section 3 of 0.4.0 has brought prevResult for DEL (libcni: delNetwork)."""
    result = {"cniVersion": version, "ips": [{"version": "4", "address": "192.0.2.2/24"}]}
    bin_dir = write_plugin(run_dir, "old", f"[ $CNI_COMMAND != ADD ] || echo '{json.dumps(result)}'")
    with cni_host(run_dir, {"type": "old"}, bin_dirs=(bin_dir,)) as host:
        write_network(run_dir, {"type": "old"}, cniVersion=version)
        pod = host.pod()
        assert pod.status.ips == ["192.0.2.2"]
        pod.remove()
    deletions = [request for command, request in calls(run_dir, "old") if command == "DEL"]
    assert [(each["cniVersion"], each.get("prevResult")) for each in deletions] == [
        (version, result if given else None)
    ]


def test_the_environment_of_a_plugin(run_dir: str) -> None:
    bin_dir = write_plugin(
        run_dir, "env", f"env > {run_dir}/env.$CNI_COMMAND; readlink /proc/self/ns/net > {run_dir}/ns; echo '{RESULT}'"
    )
    with cni_host(run_dir, {"type": "env"}, bin_dirs=(bin_dir,)) as host:
        pod = host.pod(pod_uid="uid-1")
        assert Path(run_dir, "ns").read_text().strip() == os.readlink("/proc/thread-self/ns/net"), (
            "the host's namespace"
        )
        pod.remove()
        sandbox = pod.record["sandbox_id"]
        values = dict(line.split("=", 1) for line in Path(run_dir, "env.ADD").read_text().splitlines() if "=" in line)
        assert (
            values["CNI_CONTAINERID"] == sandbox and values["CNI_IFNAME"] == "eth0" and values["CNI_NETNS"] == pod.path
        )
        assert values["CNI_PATH"].split(":")[0] == bin_dir
        assert f"K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID=uid-1" in values["CNI_ARGS"]


def test_a_change_of_the_configuration_counts_from_the_next_pod_on(run_dir: str) -> None:
    """And the pod that was there before is taken down by the configuration that it was made with."""
    bin_dir = write_plugin(run_dir, "one", f"[ $CNI_COMMAND != ADD ] || echo '{RESULT}'")
    write_plugin(run_dir, "two", f"[ $CNI_COMMAND != ADD ] || echo '{RESULT}'")
    with cni_host(run_dir, {"type": "one"}, bin_dirs=(bin_dir,)) as host:
        before = host.pod()
        write_network(run_dir, {"type": "two"})
        after = host.pod()
        os.unlink(f"{run_dir}/net.d/testnet.conflist")
        assert "There is no CNI network configuration" in host.network.check()[0]
        with pytest.raises(ConfigError):
            host.network.plan(host.request())
        before.remove()
        after.remove()
    assert [command for command, _ in calls(run_dir, "one")] == ["ADD", "DEL"]
    assert [command for command, _ in calls(run_dir, "two")] == ["ADD", "DEL"]


def test_status_and_gc(run_dir: str) -> None:
    """1.1: STATUS before anything is needed, GC with the attachments that are still valid."""
    bin_dir = write_plugin(
        run_dir,
        "new",
        f"""
        if [ $CNI_COMMAND = STATUS ] && [ -e {run_dir}/unwell ]; then
            echo '{{"cniVersion": "1.1.0", "code": 50, "msg": "the address server is away"}}'; exit 1
        fi
        [ $CNI_COMMAND != ADD ] || echo '{RESULT}'
        """,
    )
    with cni_host(run_dir, {"type": "new"}, bin_dirs=(bin_dir,)) as host:
        write_network(run_dir, {"type": "new"}, cniVersion="1.1.0")
        assert host.network.check() == []
        Path(run_dir, "unwell").touch()
        [problem] = host.network.check()
        assert "STATUS by the CNI plugin" in problem and "the address server is away (code 50)" in problem
        pod = host.pod()
        assert host.network.collect_garbage() == []
        sandbox = pod.record["sandbox_id"]
        [gc] = [request for command, request in calls(run_dir, "new") if command == "GC"]
        assert gc["cni.dev/valid-attachments"] == [{"containerID": sandbox, "ifname": "eth0"}]
        assert "prevResult" not in gc and "runtimeConfig" not in gc
        pod.remove()
        write_network(run_dir, {"type": "new"}, cniVersion="1.1.0", disableGC=True)
        assert host.network.collect_garbage() == []
        assert [command for command, _ in calls(run_dir, "new")].count("GC") == 1


@needs_plugins
def test_the_version_is_the_highest_that_all_plugins_share(run_dir: str) -> None:
    """Debian 12's plugins speak 1.0.0 at most; a newer one of the chain does not change that."""
    bin_dir = write_plugin(run_dir, "new", f"[ $CNI_COMMAND != ADD ] || echo '{RESULT}'")
    newest = supported("bridge")[-1]
    with cni_host(run_dir, bridge(run_dir), {"type": "new"}, bin_dirs=(bin_dir,)) as host:
        write_network(run_dir, bridge(run_dir), {"type": "new"}, cniVersions=["0.4.0", "1.0.0", "1.1.0"])
        assert host.network.plan(host.request())["attachments"][0]["version"] == newest
        if newest != "1.1.0":
            write_network(run_dir, bridge(run_dir), cniVersion="1.1.0")
            [problem] = host.network.check()
            assert "is for version 1.1.0, which its plugins do not all support: bridge supports" in problem


def test_capabilities_reach_the_plugins_that_declare_them(run_dir: str) -> None:
    bin_dir = write_plugin(run_dir, "one", f"[ $CNI_COMMAND != ADD ] || echo '{RESULT}'")
    declared = {"type": "one", "capabilities": {"portMappings": True, "cgroupPath": True, "ips": True, "mac": True}}
    with cni_host(run_dir, declared, {"type": "one"}, bin_dirs=(bin_dir,)) as host:
        pod = host.pod(
            PortMapping(host_port=18080, container_port=80),
            cgroup_path="/podlite/x",
            ips=["192.0.2.77"],
            mac="02:00:00:00:00:01",
        )
        pod.remove()
    first, second, *deletions = [request for _, request in calls(run_dir, "one")]
    assert first["runtimeConfig"] == {
        "portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}],
        "cgroupPath": "/podlite/x",
        "ips": ["192.0.2.77"],
        "mac": "02:00:00:00:00:01",
    }
    assert "runtimeConfig" not in second and "capabilities" not in first
    assert [each.get("runtimeConfig") for each in deletions] == [None, first["runtimeConfig"]]


@needs_plugins
def test_ranges_that_the_runtime_names(run_dir: str) -> None:
    """host-local takes them from the capability where it declares it (its README, "ipRanges")."""
    plugin = bridge(run_dir, ipam={"type": "host-local", "dataDir": f"{run_dir}/leases"})
    plugin["capabilities"] = {"ipRanges": True}
    with cni_host(run_dir, plugin, ip_ranges=("10.77.3.0/24", "fd77::/64")) as host:
        pod = host.pod()
        assert [ipaddress.ip_address(ip) in ipaddress.ip_network("10.77.3.0/24") for ip in pod.status.ips] == [
            True,
            False,
        ]
        assert ipaddress.ip_address(pod.status.ips[1]) in ipaddress.ip_network("fd77::/64")


def test_a_host_port_that_no_plugin_would_publish_is_refused(run_dir: str) -> None:
    bin_dir = write_plugin(run_dir, "one", f"echo '{RESULT}'")
    with cni_host(run_dir, {"type": "one"}, bin_dirs=(bin_dir,)) as host:
        with pytest.raises(InvalidArgumentError, match="declares the capability portMappings"):
            host.pod(PortMapping(host_port=18080, container_port=80))
        assert calls(run_dir, "one") == []


# --- several networks -----------------------------------------------------------------------------


@needs_plugins
def test_several_networks_on_one_pod(run_dir: str) -> None:
    with cni_host(run_dir, bridge(run_dir)) as host:
        # Not ipMasq: the plugin names its chain after network and container, and so has one for both interfaces.
        second = bridge(run_dir, "10.89.0.0/16", bridge="cni1", ipMasq=False)
        second["ipam"]["routes"] = []
        write_network(run_dir, second, name="z-storage")
        pods = [host.pod(annotations={"k8s.v1.cni.cncf.io/networks": "z-storage@fast0,z-storage"}) for _ in range(2)]
        own, fast, net2 = pods[0].status.interfaces
        assert [own.name, fast.name, net2.name] == ["eth0", "fast0", "net2"]
        assert [own.default, fast.default, net2.default] == [True, False, False]
        assert pods[0].status.ips == own.ips, "the pod's addresses are those of its own network"
        with serving(pods[1].fd, "other", "0.0.0.0", 0, 1) as server:
            for interface in pods[1].status.interfaces:
                ip4 = next(ip for ip in interface.ips if ":" not in ip)
                assert ask(pods[0].fd, ip4, server.port).startswith("other|")
        for pod in list(pods):
            pod.remove()
        no_traces(host)
        with pytest.raises(ConfigError, match=r"no CNI network 'missing' .*: there are testnet, z-storage"):
            host.pod(annotations={"k8s.v1.cni.cncf.io/networks": "missing"})


# --- plugins that misbehave -----------------------------------------------------------------------

BAD = {
    "crashes": ("kill -SEGV $$", r"was killed by signal 11, without saying why"),
    "fails": ("echo oh dear >&2; exit 3", r"failed with exit status 3, without saying why.*oh dear"),
    "garbage": ("echo '<html>'", r"ended well, but printed what is no result: '<html>"),
    "garbage-error": ("echo '<html>'; exit 1", r"printed what is no error of CNI's: '<html>'"),
    "silent": ("exit 0", r"ended well, but printed what is no result: ''"),
    "endless": ("yes", r"has printed more than 1 MiB, and was killed"),
    "hangs": ("sleep 1000", r"has not ended within 1 seconds, and was killed"),
    "hangs-deaf": ("trap '' TERM INT; while :; do sleep 1000; done", r"has not ended within 1 seconds"),
}


@needs_plugins
@pytest.mark.parametrize("how", list(BAD))
def test_a_misbehaving_plugin_ends_in_a_sentence_and_leaves_nothing(run_dir: str, how: str) -> None:
    script, said = BAD[how]
    bin_dir = write_plugin(run_dir, "bad", f"[ $CNI_COMMAND = DEL ] && exit 0\necho '{how} said this' >&2\n{script}")
    with cni_host(run_dir, bridge(run_dir), {"type": "bad"}, bin_dirs=(bin_dir,), seconds=1.0) as host:
        with pytest.raises(NetworkSetupError, match=rf"(?s)The network of pod default/pod-.*{said}") as error:
            host.pod()
        if how not in ("garbage", "silent"):
            assert f"{how} said this" in str(error.value), "all of its standard error"
        assert "Taking it back failed" not in str(error.value)
        no_traces(host)
        assert [command for command, _ in calls(run_dir, "bad")] == ["ADD", "DEL"], "DEL although ADD failed"
        wait_for(lambda: f"{run_dir}/bin/bad" not in sh("ps -eo args"), "its processes gone")


def test_a_plugin_that_leaves_a_child_with_its_pipes_is_not_waited_for(run_dir: str) -> None:
    bin_dir = write_plugin(run_dir, "one", f"(echo $$ >/dev/null; exec sleep 8) & echo '{RESULT}'")
    with cni_host(run_dir, {"type": "one"}, bin_dirs=(bin_dir,)) as host:
        before = time.monotonic()
        pod = host.pod()
        assert time.monotonic() - before < 8
        assert pod.status.ips == ["192.0.2.77"]


def test_a_missing_plugin_is_found_before_anything_is_made(run_dir: str) -> None:
    bin_dir = write_plugin(run_dir, "one", f"echo '{RESULT}'")
    with cni_host(run_dir, {"type": "one"}, {"type": "missing"}, bin_dirs=(bin_dir,)) as host:
        with pytest.raises(PluginMissingError, match="The CNI plugin 'missing' is not in") as error:
            host.pod()
        assert "--cni-bin-dir" in error.value.hint
        assert host.network.check() and "'missing'" in host.network.check()[0]
        assert calls(run_dir, "one") == []


@needs_plugins
def test_a_plugin_that_goes_missing_keeps_the_record_until_it_is_back(run_dir: str) -> None:
    bin_dir = write_plugin(run_dir, "one", f"[ $CNI_COMMAND != ADD ] || echo '{RESULT}'")
    with cni_host(run_dir, bridge(run_dir), {"type": "one"}, bin_dirs=(bin_dir,)) as host:
        pod = host.pod()
        os.rename(f"{bin_dir}/one", f"{bin_dir}/away")
        with pytest.raises(NetworkTeardownError, match="The CNI plugin 'one' is not in"):
            host.network.teardown_pod_network(pod.record)
        os.rename(f"{bin_dir}/away", f"{bin_dir}/one")
        pod.remove()
        no_traces(host)


@needs_plugins
def test_a_failing_del_is_reported_and_can_be_tried_again(run_dir: str) -> None:
    bin_dir = write_plugin(
        run_dir,
        "one",
        f"""
        [ $CNI_COMMAND = ADD ] && echo '{RESULT}' && exit 0
        [ -e {run_dir}/well ] || {{ echo '{{"code": 100, "msg": "not now"}}'; exit 1; }}
        """,
    )
    with cni_host(run_dir, bridge(run_dir), {"type": "one"}, bin_dirs=(bin_dir,)) as host:
        pod = host.pod()
        for _ in range(2):
            with pytest.raises(
                NetworkTeardownError, match=r"DEL by the CNI plugin .*/one.* failed: not now \(code 100\)"
            ):
                host.network.teardown_pod_network(pod.record)
        Path(run_dir, "well").touch()
        pod.remove()
        no_traces(host)


def test_version_answered_by_garbage(run_dir: str) -> None:
    path = Path(run_dir, "bin/one")
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho nonsense\n")
    path.chmod(0o755)
    with (
        cni_host(run_dir, {"type": "one"}, bin_dirs=(str(path.parent),)) as host,
        pytest.raises(
            PluginError, match="VERSION by the CNI plugin one was answered by what is no list of versions: 'nonsense"
        ),
    ):
        host.pod()


# --- killed on the way ----------------------------------------------------------------------------


@needs_plugins
@pytest.mark.parametrize("after", range(1, 5))
def test_killed_between_the_plugins(run_dir: str, tmp_path: Path, after: int) -> None:
    """kill -9 between one plugin's ADD and the next thing: the record and what is written down undo all of it.

    `after` counts plugins that have ended: bridge, firewall, portmap. The fourth time it is all done, and not told.
    """
    with cni_host(run_dir, bridge(run_dir), FIREWALL, PORTMAP) as host:
        warm = host.pod(PortMapping(host_port=18079, container_port=80))
        warm.remove()
        victim = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).parent / "cni_victim.py"),
                run_dir,
                str(tmp_path / "record"),
                str(after),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert victim.returncode == -signal.SIGKILL, victim.stderr
        left = json.loads((tmp_path / "record").read_text())
        host.make(run_dir).teardown_pod_network(left["record"])
        netns.remove(left["netns"])
        no_traces(host)
        rules = sh("iptables-save; ip6tables-save")
        assert "18090" not in rules and "10.88.0.3" not in rules


@needs_plugins
def test_what_an_earlier_boot_has_left_is_taken_back(run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """host-local keeps its leases on disk, and our records are void after a reboot: the cache is not."""
    from podlite.runtime import journal

    with cni_host(run_dir, bridge(run_dir)) as host:
        pod = host.pod()
        pod.close()
        monkeypatch.setattr(journal, "_boot_id", "another-boot")
        fresh = host.make(run_dir)
        fresh.plan(host.request())
        no_traces(host)


def test_nothing_is_reachable_by_a_deleted_pods_host_port(run_dir: str) -> None:
    if not PLUGINS:
        pytest.skip("needs the CNI plugins")
    with cni_host(run_dir, bridge(run_dir), PORTMAP, uplink=True) as host:
        pod = host.pod(PortMapping(host_port=18080, container_port=80))
        assert host.outside is not None
        with serving(pod.fd, "pod", "0.0.0.0", 80, 1):
            assert ask(host.outside, "192.0.2.1", 18080).startswith("pod|")
            host.network.teardown_pod_network(pod.record)
            assert refused(host.outside, "192.0.2.1", 18080)
