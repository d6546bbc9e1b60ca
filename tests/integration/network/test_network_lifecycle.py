"""From plan to nothing left: twice, too early, half done, killed on the way, by many at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from network_hosts import HOST4, HOST6, Host, Pod, ask, inside, new_host, serving, sh, wait_for

from podlite import steps
from podlite.cri.errors import InvalidArgumentError, NetworkSetupError
from podlite.cri.types import PortMapping
from podlite.linux import netns
from podlite.linux.netlink import NetlinkSocket
from podlite.runtime.network.builtin import BuiltinNetwork
from podlite.runtime.network.errors import NetworkTeardownError
from podlite.runtime.network.none import HostNetwork, NoneNetwork, host_ips

STEPS = ("network.address", "network.firewall", "network.setup", "network.hostports")


@pytest.fixture(autouse=True)
def no_faults_left() -> Any:
    yield
    steps.clear_faults()


def test_planning_makes_nothing(host: Host) -> None:
    host.network.prepare()
    before = host.state()
    record = host.network.plan(host.request(PortMapping(host_port=8080, container_port=80)))
    assert host.state() == before
    assert record["ips"] == ["10.85.0.2", "fd85::2"]
    assert json.loads(json.dumps(record)) == record


def test_teardown_twice_and_of_what_never_was(host: Host) -> None:
    before = host.state()
    pod = host.pod(PortMapping(host_port=8080, container_port=80))
    host.network.teardown_pod_network(pod.record)
    host.network.teardown_pod_network(pod.record)
    pod.close()
    host.network.teardown_pod_network(pod.record)
    host.network.teardown_pod_network(host.network.plan(host.request()))
    host.network.release_unused()
    host.wait_for_state(before)


def test_teardown_by_another_process_later(host: Host) -> None:
    before = host.state()
    pod = host.pod(PortMapping(host_port=8080, container_port=80))
    other = BuiltinNetwork(host.run_dir, ["10.85.0.0/16", "fd85::/64"])
    other.teardown_pod_network(json.loads(json.dumps(pod.record)))
    pod.close()
    assert other.release_unused()
    other.close()
    host.wait_for_state(before)


def test_teardown_stops_all_traffic_while_the_namespace_lives_on(host: Host) -> None:
    pod, other = host.pod(), host.pod()
    with serving(other.fd, "other", "0.0.0.0", 0, socket.SOCK_DGRAM) as server:
        assert ask(pod.fd, other.ip4, server.port, socket.SOCK_DGRAM)
        host.network.teardown_pod_network(pod.record)
        assert sh(f"ip route show {pod.ip4}; ip -6 route show {pod.ip6}") == ""
        with pytest.raises(OSError):
            ask(pod.fd, other.ip4, server.port, socket.SOCK_DGRAM, seconds=0.3)
        assert len(server.seen) == 1


def test_the_veth_pair_goes_with_the_namespace(host: Host) -> None:
    pod = host.pod()
    name = pod.record["host_interface"]
    assert name in sh("ip -o link")
    pod.remove()
    wait_for(lambda: name not in sh("ip -o link"), f"{name} gone")


def test_or_at_once_if_it_has_to(host: Host) -> None:
    pod = host.pod()
    host.network.teardown_pod_network(pod.record, with_link=True)
    assert pod.record["host_interface"] not in sh("ip -o link")
    assert "eth0" not in pod.sh("ip -o link")


def test_another_pods_address_and_link_are_not_taken_away(host: Host) -> None:
    """A plan that lost the race for its address must not undo the winner's work."""
    pod = host.pod()
    stale = {**pod.record, "sandbox_id": "f" * 64}
    before = host.state()
    host.network.teardown_pod_network(stale, with_link=True)
    assert host.state() == before


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_takes_everything_back(host: Host, step: str) -> None:
    host.network.prepare()
    before = host.state()
    steps.inject(step, "error(EMFILE)")
    with pytest.raises(
        NetworkSetupError, match=r"The network of pod default/pod-.* could not be set up: .*Too many open"
    ) as e:
        host.pod(PortMapping(host_port=8080, container_port=80))
    assert "Taking it back failed" not in str(e.value)
    steps.clear_faults()
    host.wait_for_state(before)
    host.pod(PortMapping(host_port=8080, container_port=80)).remove()


def test_what_the_kernel_refuses_is_named(host: Host) -> None:
    """An eth0 that is there already."""
    request = host.request()
    record = host.network.plan(request)

    def occupied() -> NetlinkSocket:
        sh("ip link add eth0 type veth peer name eth9")
        return NetlinkSocket()

    before = host.state()
    socket_inside = netns.create(request.netns_path, host.own, occupied)
    with pytest.raises(NetworkSetupError, match=r"The kernel refused to create the veth pair: File exists"):
        host.network.setup_pod_network(request, record, socket_inside)
    socket_inside.close()
    netns.remove(request.netns_path)
    host.network.release_unused()
    assert host.network.plan(host.request())["ips"] == ["10.85.0.3", "fd85::3"]
    assert [key for key in ("links", "routes") if host.state()[key] != before[key]] == []


def test_an_index_that_somebody_has_is_stepped_over(host: Host) -> None:
    sh("ip link add name squat index 1000002 type veth peer name squat9")
    pod = host.pod()
    with serving(pod.fd, "pod", "0.0.0.0", 0, socket.SOCK_STREAM) as server:
        assert ask(host.own, "10.85.0.2", server.port).startswith("pod|")


def test_a_device_name_that_is_taken_is_found_before_anything_is_made(host: Host) -> None:
    request = host.request()
    sh(f"ip link add name pl{request.sandbox_id[:8]} type veth peer name other9")
    with pytest.raises(NetworkSetupError, match="There is a network device pl"):
        host.network.plan(request)


def test_a_failed_teardown_keeps_the_claim_and_says_what_is_left(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = host.pod()

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(host.network, "_delete_routes", refuse)
    with pytest.raises(NetworkTeardownError, match="the routes: Operation not permitted"):
        host.network.teardown_pod_network(pod.record)
    assert os.readlink(f"{host.run_dir}/network/addresses/10.85.0.2") == pod.record["sandbox_id"]
    monkeypatch.undo()
    host.network.teardown_pod_network(pod.record)
    assert not os.path.lexists(f"{host.run_dir}/network/addresses/10.85.0.2")


def test_without_a_socket_inside_the_namespaces_descriptor_is_used(host: Host) -> None:
    request = host.request()
    record = host.network.plan(request)
    netns.create(request.netns_path, host.own, lambda: None)
    request.netns_fd = os.open(request.netns_path, os.O_RDONLY)
    status = host.network.setup_pod_network(request, record, None)
    os.close(request.netns_fd)
    pod = Pod(host, record, status, request.netns_path)
    host.pods.append(pod)
    assert "1 received" in sh(f"ping -c 1 -W 5 {pod.ip6}")


# --- killed on the way ------------------------------------------------------------------------


def victim(host: Host, record: Path, work: str, where: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("network_victim.py")
    command = [sys.executable, str(script), host.run_dir, str(record), work, where]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def batches(host: Host, tmp_path: Path, work: str) -> int:
    done = victim(host, tmp_path / "record", work, "never")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def reap(host: Host, record_path: Path) -> None:
    """What the reaper of orphans does with a record."""
    left = json.loads(record_path.read_text())
    network = BuiltinNetwork(host.run_dir, ["10.85.0.0/16", "fd85::/64"])
    network.teardown_pod_network(left["record"])
    netns.remove(left["netns"])
    assert network.release_unused()
    network.close()


@pytest.mark.parametrize("where", STEPS)
def test_killed_at_a_step(host: Host, tmp_path: Path, where: str) -> None:
    before = host.state()
    done = victim(host, tmp_path / "record", "set-up", where)
    assert done.returncode == -signal.SIGKILL, done.stderr
    reap(host, tmp_path / "record")
    host.wait_for_state(before)


@pytest.mark.parametrize("work", ["set-up", "tear-down"])
def test_killed_after_each_batch(host: Host, tmp_path: Path, work: str) -> None:
    before = host.state()
    count = batches(host, tmp_path, work)
    if work == "set-up":
        reap(host, tmp_path / "record")
        host.wait_for_state(before)
    # Set-up: gateway, table, pod's end, host's end, elements, connections; taken back in about as many.
    assert count >= 5
    for number in range(1, count + 1):
        done = victim(host, tmp_path / "record", work, f"batch {number}")
        assert done.returncode == -signal.SIGKILL, done.stderr
        reap(host, tmp_path / "record")
        host.wait_for_state(before)


def test_killed_at_the_teardown(host: Host, tmp_path: Path) -> None:
    before = host.state()
    assert victim(host, tmp_path / "record", "tear-down", "network.teardown").returncode == -signal.SIGKILL
    reap(host, tmp_path / "record")
    host.wait_for_state(before)


def test_killed_while_taking_back_what_is_shared(host: Host) -> None:
    """shared.json has been moved aside: whoever comes next knows that all of it may still be there."""
    before = host.state()
    pod = host.pod()
    host.network.teardown_pod_network(pod.record)
    pod.close()
    path = f"{host.run_dir}/network/shared.json"
    os.rename(path, f"{path}.leaving")
    second = host.pod()
    assert os.path.exists(path) and not os.path.exists(f"{path}.leaving")
    second.remove()
    os.rename(path, f"{path}.leaving")
    assert host.network.release_unused()
    host.wait_for_state(before)


# --- many ---------------------------------------------------------------------------------------


def test_hundreds_of_pods_all_reachable(lonely: Host) -> None:
    before = lonely.state()
    pods = [lonely.pod() for _ in range(200)]
    assert len({ip for pod in pods for ip in pod.status.ips}) == 400
    first, last = pods[0], pods[-1]
    with serving(last.fd, "last", "::", 0, socket.SOCK_STREAM) as server:
        assert ask(first.fd, last.ip6, server.port) == f"last|{first.ip6}"
    for pod in pods[::20]:
        assert "1 received" in first.sh(f"ping -c 1 -W 5 {pod.ip4}")
    for pod in pods:
        pod.remove()
    assert lonely.network.release_unused()
    lonely.wait_for_state(before)


def test_eight_threads_at_once(host: Host) -> None:
    before = host.state()
    failed: list[BaseException] = []
    seen: list[str] = []

    def work(number: int) -> None:
        own = os.open(netns.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for turn in range(15):
                port = PortMapping(host_port=20000 + number, container_port=80)
                request = host.request(*([port] if turn % 3 == 0 else []))
                record = host.network.plan(request)
                with netns.create(request.netns_path, own, NetlinkSocket) as socket_inside:
                    status = host.network.setup_pod_network(request, record, socket_inside)
                seen.extend(status.ips)
                fd = os.open(request.netns_path, os.O_RDONLY | os.O_CLOEXEC)
                assert "1 received" in inside(fd, lambda: sh("ping -c 1 -W 5 169.254.1.1"))
                os.close(fd)
                host.network.teardown_pod_network(record)
                netns.remove(request.netns_path)
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(own)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(seen)) == 8 * 15 * 2
    assert host.network.release_unused()
    host.wait_for_state(before)


def test_descriptors_do_not_grow(host: Host) -> None:
    def cycle() -> int:
        for _ in range(20):
            host.pod(PortMapping(host_port=8080, container_port=80)).remove()
        return len(os.listdir("/proc/self/fd"))

    assert cycle() == cycle()


def test_a_small_range_is_used_up_and_comes_back(run_dir: str) -> None:
    with new_host(run_dir, uplink=False, cidrs=("192.0.2.0/30",)) as host:
        one, two = host.pod(), host.pod()
        assert [one.ip4, two.ip4] == ["192.0.2.1", "192.0.2.2"]
        with pytest.raises(NetworkSetupError, match=r"All 2 pod addresses of 192\.0\.2\.0/30 are in use"):
            host.pod()
        one.remove()
        assert host.pod().ip4 == "192.0.2.1"


# --- hosts of all kinds --------------------------------------------------------------------------


def test_an_overlap_names_the_route_and_the_option(host: Host) -> None:
    sh("ip route add 10.85.4.0/22 via 192.0.2.2")
    with pytest.raises(NetworkSetupError, match=r"10\.85\.0\.0/16 overlap the route 10\.85\.4\.0/22 dev up0") as caught:
        host.pod()
    assert "--pod-cidr" in caught.value.hint
    assert host.network.check() == [str(caught.value)]
    sh("ip route del 10.85.4.0/22 via 192.0.2.2; ip -6 route add fd85::/48 via 2001:db8::2")
    with pytest.raises(NetworkSetupError, match=r"fd85::/64 overlap the route fd85::/48 dev up0"):
        host.pod()
    sh("ip -6 route del fd85::/48 via 2001:db8::2; ip route add blackhole 10.85.0.0/16")
    assert host.network.check() == []
    host.pod()


def test_pods_that_are_there_are_no_overlap_for_the_next_process(host: Host) -> None:
    host.pod()
    other = BuiltinNetwork(host.run_dir, ["10.85.0.0/16", "fd85::/64"])
    assert other.check() == []
    assert other.plan(host.request())["ips"] == ["10.85.0.3", "fd85::3"]
    other.close()


@pytest.mark.parametrize("name", ["all", "default", "lo"])
def test_a_host_without_ipv6_has_pods_without(host: Host, name: str) -> None:
    sh(f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    before = host.state()
    pod = host.pod(PortMapping(host_port=8080, container_port=80))
    assert pod.status.ips == ["10.85.0.2"]
    assert "1 received" in pod.sh("ping -c 1 -W 5 192.0.2.2")
    assert "inet6" not in pod.sh("ip address show dev eth0")
    pod.remove()
    host.network.release_unused()
    host.wait_for_state(before)


def test_a_way_out_too_narrow_for_ipv6(host: Host) -> None:
    """RFC 8200: 1280 bytes; below that devices have nothing of IPv6."""
    sh("ip link set up0 mtu 1200")
    before = host.state()
    pod = host.pod()
    assert pod.status.ips == ["10.85.0.2"]
    assert "1 received" in pod.sh("ping -c 1 -W 5 -s 1000 192.0.2.2")
    assert "inet6" not in pod.sh("ip address show dev eth0")
    pod.remove()
    host.network.release_unused()
    host.wait_for_state(before)


@pytest.mark.parametrize("cidr", ["10.99.0.0/24", "fd99::/112"])
def test_one_family_alone(run_dir: str, cidr: str) -> None:
    with new_host(run_dir, uplink=True, cidrs=(cidr,)) as host:
        before = host.state()
        one, two = host.pod(), host.pod()
        assert [len(pod.status.ips) for pod in (one, two)] == [1, 1]
        assert "1 received" in one.sh(f"ping -c 1 -W 5 {two.status.ips[0]}")
        assert "1 received" in one.sh(f"ping -c 1 -W 5 {'2001:db8::2' if ':' in cidr else '192.0.2.2'}")
        one.remove()
        two.remove()
        host.network.release_unused()
        host.wait_for_state(before)


@pytest.mark.parametrize("cidrs", [[], ["10.1.0.0/16", "10.2.0.0/16"], ["10.1.0.0/16", "fd85::/64", "fd86::/64"]])
def test_at_most_one_range_of_each_family(run_dir: str, cidrs: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="one range of IPv4 addresses, one of IPv6, or both"):
        BuiltinNetwork(run_dir, cidrs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ips": ["10.86.0.1"]}, "cannot have the address '10.86.0.1'"),
        ({"ips": ["10.85.0.8", "10.85.0.9"]}, "cannot have the address '10.85.0.9'"),
        ({"ips": ["fd85::1"]}, "cannot have the address 'fd85::1'"),
        ({"mac": "01:00:5e:00:00:01"}, "no hardware address"),
        ({"mac": "ee:70:6c:00:00:01"}, "no hardware address"),
        ({"mac": "eth0"}, "no hardware address"),
    ],
)
def test_wishes_that_cannot_be_met(host: Host, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        host.pod(**options)


def test_no_network_but_lo(lonely: Host) -> None:
    network = NoneNetwork()
    request = lonely.request()
    record = network.plan(request)
    with netns.create(request.netns_path, lonely.own, NetlinkSocket) as socket_inside:
        status = network.setup_pod_network(request, record, socket_inside)
    request.netns_fd = os.open(request.netns_path, os.O_RDONLY)
    assert status.ips == []
    assert [line.split()[1] for line in inside(request.netns_fd, lambda: sh("ip -o link show up")).splitlines()] == [
        "lo:"
    ]
    network.setup_pod_network(request, record, None)
    os.close(request.netns_fd)
    network.teardown_pod_network(record)
    netns.remove(request.netns_path)
    with pytest.raises(InvalidArgumentError, match="The host port 80 cannot be published: the pod has no network"):
        network.plan(lonely.request(PortMapping(host_port=80, container_port=80)))


def test_the_hosts_own_network(lonely: Host) -> None:
    before = lonely.state()
    network = HostNetwork()
    request = lonely.request(PortMapping(host_port=80, container_port=80))
    record = network.plan(request)
    assert record == {"network": "host", "version": 1}
    assert network.setup_pod_network(request, record, None).ips == []
    network.teardown_pod_network(record)
    assert network.check() == [] and network.release_unused()
    assert lonely.state() == before


def test_the_hosts_network_cannot_lead_a_port_to_another_one(lonely: Host) -> None:
    request = lonely.request(PortMapping(host_port=8080, container_port=80))
    with pytest.raises(InvalidArgumentError, match="The host port 8080 cannot lead to the pod's port 80"):
        HostNetwork().plan(request)
    assert HostNetwork().plan(lonely.request(PortMapping(host_port=80, container_port=80)))["network"] == "host"


def test_the_host_networks_addresses_are_the_hosts(host: Host) -> None:
    """For a pod that did not ask for the host's network by itself (CRI has none for one that did)."""
    request = host.request()
    shared = HostNetwork(host_ips)
    assert shared.setup_pod_network(request, shared.plan(request), None).ips == [HOST4, HOST6]
    assert HostNetwork().setup_pod_network(request, shared.plan(request), None).ips == []
