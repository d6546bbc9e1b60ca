"""Beside firewalld, ufw, docker and netavark, each as it is in its package, running in a host of the test's own.

Theirs stays as it is, what of it stops pods is named, and with `integrate` pods get through while there are pods.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from network_hosts import (
    CIDRS,
    HOST4,
    OUTSIDE4,
    OUTSIDE6,
    REFUSED_SECONDS,
    SECONDS,
    Host,
    Pod,
    new_host,
    refused,
    serving,
    sh,
    wait_for,
)

from podlite.cri.errors import NetworkSetupError
from podlite.cri.types import PortMapping
from podlite.runtime.network.builtin import BuiltinNetwork

TCP = 1


def rules() -> str:
    """All rules but for the counters' numbers."""
    return re.sub(r"counter packets \d+ bytes \d+", "counter", sh("nft list ruleset"))


def settle() -> None:
    """Until a firewall that is just starting has loaded all of its rules: they do not change for a while."""
    last, since = "", time.monotonic()
    while time.monotonic() - since < 0.7:
        if (now := rules()) != last:
            last, since = now, time.monotonic()
        time.sleep(0.1)


# --- the firewalls ------------------------------------------------------------------------------


class Firewall:
    """One that is running on `host`; `reload` does what its owner does after a change."""

    name: str
    host: Host
    reload = ""


@contextmanager
def _daemon(host: Host, setup: str, command: str, ready: str) -> Iterator[None]:
    """A daemon with /run, /etc and /var of its own, in the host's network namespace."""
    scratch = f"{host.run_dir}/daemon"
    os.makedirs(scratch)
    script = f"""
    mount -t tmpfs tmpfs {scratch}
    for each in etc var; do
        mkdir -p {scratch}/$each/upper {scratch}/$each/work
        mount -t overlay overlay -o lowerdir=/$each,upperdir={scratch}/$each/upper,workdir={scratch}/$each/work /$each
    done
    mount -t tmpfs tmpfs /run
    {setup}
    exec {command}
    """
    with open(f"{host.run_dir}/daemon.log", "w") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", script],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(
            lambda: subprocess.run(["sh", "-c", ready], check=False, capture_output=True).returncode == 0, ready, 30
        )
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}\n{Path(host.run_dir, 'daemon.log').read_text()}") from error
    finally:
        process.kill()
        process.wait()
        os.rmdir(scratch)


@contextmanager
def firewalld(host: Host) -> Iterator[Firewall]:
    bus = f"{host.run_dir}/bus"
    os.chmod(host.run_dir, 0o755)  # the bus gives up its rights before it listens
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={bus}"
    try:
        setup = f"mkdir -p /run/dbus; dbus-daemon --system --fork --nopidfile --address=unix:path={bus}"
        with _daemon(host, setup, "firewalld --nofork --nopid", "firewall-cmd --state"):
            made = Firewall()
            made.reload = "firewall-cmd --reload"
            yield made
    finally:
        del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]


@contextmanager
def ufw(host: Host) -> Iterator[Firewall]:
    with _daemon(
        host, "ufw --force enable", "sleep 1000", "iptables -S ufw-user-forward && ip6tables -S ufw6-user-forward"
    ):
        yield Firewall()


@contextmanager
def docker(host: Host) -> Iterator[Firewall]:
    sockets = "-H unix:///run/docker.sock --pidfile /run/docker.pid --exec-root /run/docker"
    ready = "iptables -S DOCKER-USER && iptables -S FORWARD | grep -q 'P FORWARD DROP'"
    # Only where it has to switch forwarding on by itself does it close the forward path.
    sh("sysctl -q -w net.ipv4.ip_forward=0")
    with _daemon(host, "", f"dockerd --data-root /run/data {sockets}", ready):
        yield Firewall()


NETAVARK = next(
    (path for path in ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark") if os.path.exists(path)), ""
)
_NETAVARK_INPUT = """
{"container_id": "c1", "container_name": "c1",
 "port_mappings": [{"container_port": 80, "host_ip": "", "host_port": 18088, "protocol": "tcp", "range": 1}],
 "networks": {"podman": {"static_ips": ["10.88.7.2"], "interface_name": "eth0"}},
 "network_info": {"podman": {"name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
  "driver": "bridge", "network_interface": "podman0", "subnets": [{"subnet": "10.88.7.0/24", "gateway": "10.88.7.1"}],
  "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"}}}}
"""


@contextmanager
def netavark(host: Host) -> Iterator[Firewall]:
    """What podman runs for a container's network: a bridge, and its rules."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    try:
        path = f"/proc/{holder.pid}/ns/net"
        wait_for(lambda: os.readlink(path) != os.readlink("/proc/self/ns/net"), "the container's namespace")
        subprocess.run(
            [NETAVARK, "--config", f"{host.run_dir}/netavark", "setup", path],
            input=_NETAVARK_INPUT,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield Firewall()
    finally:
        holder.kill()
        holder.wait()


FIREWALLS = {"firewalld": firewalld, "ufw": ufw, "docker": docker, "netavark": netavark}
_NEEDS = {
    "firewalld": shutil.which("firewalld") and shutil.which("dbus-daemon"),
    "ufw": shutil.which("ufw"),
    "docker": shutil.which("dockerd"),
    "netavark": NETAVARK,
}


def beside(*names: str) -> pytest.MarkDecorator:
    """A test is run beside each of these. Each is started once, for its tests one after another: a test takes back
    what it does."""
    params = [pytest.param(name, marks=pytest.mark.skipif(not _NEEDS[name], reason=f"needs {name}")) for name in names]
    return pytest.mark.parametrize("firewall", params, indirect=True, scope="module")


@pytest.fixture(scope="module")
def firewall(request: pytest.FixtureRequest) -> Iterator[Firewall]:
    with (
        tempfile.TemporaryDirectory(prefix="podlite-test-", dir="/dev/shm") as directory,
        new_host(directory, uplink=True) as host,
        FIREWALLS[request.param](host) as made,
    ):
        if request.param == "firewalld":
            # It makes a zone's chains when the zone is first used, and keeps them.
            sh("for each in add remove; do firewall-cmd --zone=trusted --$each-source=203.0.113.1; done")
        settle()
        made.name = request.param
        made.host = host
        yield made


@pytest.fixture
def host(firewall: Firewall, run_dir: str) -> Iterator[Host]:
    """The firewall's host, with a network of the test's own."""
    made = Host(run_dir)
    assert firewall.host.outside is not None
    made.outside = os.dup(firewall.host.outside)
    try:
        yield made
    finally:
        for pod in list(made.pods):
            pod.remove()
        made.network.release_unused()
        made.close()


@pytest.fixture
def outside(run_dir: str) -> Iterator[Host]:
    with new_host(run_dir, uplink=True) as made:
        yield made


# --- the tests ----------------------------------------------------------------------------------


def closed_ways(host: Host, pod: Pod, other: Pod, expected: set[str]) -> set[str]:
    """Which of the ways through the host are closed. Of a way that is expected to be open an answer is waited for."""
    assert host.outside is not None
    with (
        serving(host.outside, "outside", "0.0.0.0", 0, TCP) as out4,
        serving(host.outside, "outside", "::", 0, TCP) as out6,
        serving(pod.fd, "pod", "0.0.0.0", 80, TCP),
        serving(pod.fd, "pod", "::", 80, TCP),
    ):
        found = {
            "out": (other.fd, OUTSIDE4, out4.port),
            "out6": (other.fd, OUTSIDE6, out6.port),
            "between": (other.fd, pod.ip4, 80),
            "between6": (other.fd, pod.ip6, 80),
            "in": (host.outside, HOST4, 18080),
        }
        return {
            name
            for name, way in found.items()
            if refused(*way, seconds=REFUSED_SECONDS if name in expected else SECONDS)
        }


CLOSED = {
    "firewalld": {"out", "out6", "between", "between6"},
    "ufw": {"out", "out6", "between", "between6", "in"},
    "docker": {"out", "between", "in"},  # IPv4 alone is its business
    "netavark": set(),
}


@beside(*FIREWALLS)
def test_what_stops_pods_is_named_and_theirs_stays_as_it_is(host: Host, firewall: Firewall) -> None:
    before = rules()
    pod, other = host.pod(PortMapping(host_port=18080, container_port=80)), host.pod()
    closed = CLOSED[firewall.name]
    assert closed_ways(host, pod, other, closed) == closed
    named = [each for each in host.network.diagnose() if "from pods to elsewhere" in each]
    assert bool(named) == bool(closed)
    pod.remove()
    other.remove()
    assert host.network.release_unused()
    assert rules() == before


# Those of the others would be written into their configuration; test_integrate tries the same for a while.
@beside("docker", "netavark")
def test_the_rules_that_are_named_do_help(host: Host, firewall: Firewall) -> None:
    before = rules()
    pod, other = host.pod(PortMapping(host_port=18080, container_port=80)), host.pod()
    commands = [
        command
        for each in host.network.diagnose()
        for command in each.partition("this would let them through: ")[2].split(" && ")
    ]
    for command in commands:
        sh(command)
    assert closed_ways(host, pod, other, set()) == set()
    assert host.network.diagnose() == []
    for command in commands:
        sh(command.replace(" -I ", " -D "))
    pod.remove()
    other.remove()
    assert host.network.release_unused()
    assert rules() == before


@beside(*FIREWALLS)
def test_a_run_says_so(host: Host, firewall: Firewall) -> None:
    """Beside everything else, once, as a warning on standard error."""
    directories = [f"--{name}-dir={host.run_dir}/{name}" for name in ("run", "state", "log", "netns")]
    command = [
        sys.executable,
        "-m",
        "podlite",
        "run",
        *directories,
        "--image",
        "podlite.local/host:1",
        "--",
        "sleep",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("drops packets from pods to elsewhere" in done.stderr) == bool(CLOSED[firewall.name])


@beside(*FIREWALLS)
def test_integrate(host: Host, firewall: Firewall) -> None:
    before = rules()
    host.network = BuiltinNetwork(host.run_dir, CIDRS, integrate=True)
    pod, other = host.pod(PortMapping(host_port=18080, container_port=80)), host.pod()
    assert closed_ways(host, pod, other, set()) == set()
    assert not [each for each in host.network.diagnose() if "to elsewhere" in each]
    pod.remove()
    assert not host.network.release_unused()
    other.remove()
    assert host.network.release_unused()
    assert rules() == before
    assert not os.path.exists(f"{host.run_dir}/network/firewall.json")


@beside(*FIREWALLS)
def test_integrate_is_taken_back_after_a_kill_by_whoever_comes(host: Host, firewall: Firewall) -> None:
    """Killed with the rules in place: the record names them, and a podlite that would not have added them takes them
    back."""
    before = rules()
    script = f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
from network_hosts import CIDRS, Host
from podlite.runtime.network.builtin import BuiltinNetwork
host = Host({host.run_dir!r}, make=lambda run_dir: BuiltinNetwork(run_dir, CIDRS, integrate=True))
pod = host.pod()
open({host.run_dir!r} + "/left", "w").write(str(pod.record["sandbox_id"]) + " " + " ".join(pod.record["ips"]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (rules() != before) or firewall.name == "netavark"
    sandbox_id, *ips = Path(host.run_dir, "left").read_text().split()
    fresh = BuiltinNetwork(host.run_dir, CIDRS)
    fresh.teardown_pod_network(
        {
            "network": "builtin",
            "version": 1,
            "sandbox_id": sandbox_id,
            "host_interface": f"pl{sandbox_id[:8]}",
            "ips": ips,
        }
    )
    from podlite.linux import netns

    netns.remove(f"{host.run_dir}/netns/{sandbox_id}")
    assert fresh.release_unused()
    fresh.close()
    assert rules() == before


# The others have no reload that works without their own files.
@beside("firewalld")
def test_a_reload_leaves_ours_alone(host: Host, firewall: Firewall) -> None:
    pod = host.pod(PortMapping(host_port=18080, container_port=80))
    ours = sh("nft list table inet podlite")
    sh(firewall.reload)
    assert sh("nft list table inet podlite") == ours
    pod.remove()


def test_a_firewall_that_cannot_be_changed_is_an_error_and_leaves_nothing(
    outside: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    sh("iptables -P FORWARD DROP")
    before = rules()
    host = outside
    host.network = BuiltinNetwork(host.run_dir, CIDRS, integrate=True)
    directory = f"{host.run_dir}/path"
    os.makedirs(directory)
    os.symlink(shutil.which("nft") or "nft", f"{directory}/nft")
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", directory)
    with pytest.raises(NetworkSetupError, match=r"The firewall of this host cannot be changed: .*iptables"):
        host.pod()
    monkeypatch.setenv("PATH", path)
    assert host.network.release_unused()
    assert rules() == before


def test_a_table_of_somebodys_own(outside: Host) -> None:
    host = outside
    sh("nft 'table inet fw { chain way { type filter hook forward priority 0; policy drop; }; }'")
    before = rules()
    host.network = BuiltinNetwork(host.run_dir, CIDRS, integrate=True)
    pod, other = host.pod(PortMapping(host_port=18080, container_port=80)), host.pod()
    assert closed_ways(host, pod, other, set()) == set()
    assert "podlite" in sh("nft list table inet fw")
    pod.remove()
    other.remove()
    assert host.network.release_unused()
    assert rules() == before


@pytest.mark.skipif(not shutil.which("iptables-legacy"), reason="needs iptables-legacy")
def test_iptables_legacy(outside: Host) -> None:
    """Tables of its own in the kernel, which nft does not list."""
    host = outside
    done = subprocess.run(["iptables-legacy", "-P", "FORWARD", "DROP"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this kernel has no ip_tables")
    before = sh("iptables-legacy-save | grep -v '^#'")
    pod, other = host.pod(PortMapping(host_port=18080, container_port=80)), host.pod()
    assert closed_ways(host, pod, other, CLOSED["docker"]) == CLOSED["docker"]
    [drop] = host.network.diagnose()
    assert "iptables-legacy -I FORWARD -s 10.85.0.0/16 -j ACCEPT" in drop
    host.network.close()
    integrating = BuiltinNetwork(host.run_dir, CIDRS, integrate=True)
    host.network = integrating
    third = host.pod()
    assert closed_ways(host, pod, other, set()) == set()
    for each in (pod, other, third):
        each.remove()
    assert integrating.release_unused()
    assert sh("iptables-legacy-save | grep -v '^#'") == before


def test_rules_that_a_reload_has_taken_out_are_added_again(outside: Host) -> None:
    host = outside
    sh("iptables -P FORWARD DROP")
    host.network = BuiltinNetwork(host.run_dir, CIDRS, integrate=True)
    pod, other = host.pod(PortMapping(host_port=18080, container_port=80)), host.pod()
    for again in (host.network.check, lambda: host.pod().remove()):
        sh("iptables -F FORWARD")
        assert "out" in closed_ways(host, pod, other, CLOSED["docker"])
        host.network._shared._look_again = 0.0  # LOOK_SECONDS are over
        again()
        assert closed_ways(host, pod, other, set()) == set()
    pod.remove()
    other.remove()
    assert host.network.release_unused()
