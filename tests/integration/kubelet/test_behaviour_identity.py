"""What a pod is called and how it finds others: host names, hosts file, DNS, ports, runtime classes.

Sources: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/,
https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/,
https://kubernetes.io/docs/concepts/containers/runtime-class/, pkg/kubelet/network/dns.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections.abc import Iterator

import pytest
from msgspec import structs

from podlite.kubelet.kubelet import Kubelet
from tests.support.behaviours import Behaviour, check, load, reached, told

pytestmark = [pytest.mark.root, pytest.mark.anyio]

# sys/ipc.h
IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0

TABLE = [
    Behaviour(
        "setHostnameAsFQDN",
        "the kernel's host name is the FQDN",
        """
restartPolicy: Never
hostname: a
subdomain: b
setHostnameAsFQDN: true
containers: [{c: c, command: [hostname]}]
""",
        status={"phase": "Succeeded"},
        logs={"c": "a.b.default.svc.cluster.local\n"},
    ),
    Behaviour(
        "setHostnameAsFQDN-longer-than-the-kernel-takes",
        "sethostname(2) takes 64 bytes: the pod remains in Pending, with FailedCreatePodSandBox",
        """
hostname: a
subdomain: a-subdomain-of-its-own-that-is-far-too-long-for-the-kernel
setHostnameAsFQDN: true
containers: [{c: c}]
""",
        until={"phase": "Pending"},
        events=(
            "Warning FailedCreatePodSandBox .*FQDN a.a-subdomain-of-its-own-that-is-far-too-long-for-the-kernel"
            r"\.default\.svc\.cluster\.local is too long \(64 characters is the max, 86 characters requested\)",
        ),
        absent=("Created", "Started"),
    ),
    Behaviour(
        "hostnameOverride",
        "KEP-4762: takes the place of hostname, subdomain and the pod's name",
        """
restartPolicy: Never
hostnameOverride: node-7.example.com
containers: [{c: c, command: [hostname]}]
""",
        status={"phase": "Succeeded"},
        logs={"c": "node-7.example.com\n"},
    ),
    Behaviour(
        "dnsPolicy-None",
        "only what dnsConfig says",
        """
restartPolicy: Never
dnsPolicy: None
dnsConfig: {nameservers: ["192.0.2.1"], searches: [ns1.svc.cluster.local, my.dns.search.suffix],
            options: [{name: ndots, value: "2"}, {name: edns0}]}
containers: [{c: c, command: [cat, /etc/resolv.conf]}]
""",
        status={"phase": "Succeeded"},
        logs={"c": "search ns1.svc.cluster.local my.dns.search.suffix\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"},
    ),
    Behaviour(
        "a-runtime-class-that-is-not-there",
        "the pod stays, and FailedCreatePodSandBox says why",
        """
runtimeClassName: kata
containers: [{c: c}]
""",
        until={"phase": "Pending"},
        events=(r'Warning FailedCreatePodSandBox Failed to create pod sandbox: .*RuntimeClass "kata" not found.*',),
    ),
    Behaviour(
        "a-pod-on-the-host's-network",
        "no network of its own, the host's name and addresses",
        """
restartPolicy: Never
hostNetwork: true
containers:
- {c: c, command: [sh, -c, 'hostname; readlink /proc/self/ns/net'],
   env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}
""",
        status={"phase": "Succeeded", "podIP": "127.0.0.1", "hostIP": "127.0.0.1"},
    ),
]


WITH_A_NETWORK = [
    Behaviour(
        "hostname-and-subdomain",
        "the host name is the pod's name unless hostname says otherwise; with a subdomain it has an FQDN",
        """
restartPolicy: Never
hostname: busybox-1
subdomain: busybox-subdomain
containers:
- {c: c, command: [sh, -c, 'hostname; hostname -f; cat /etc/hostname']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "busybox-1\nbusybox-1.busybox-subdomain.default.svc.cluster.local\nbusybox-1\n"},
    ),
    Behaviour(
        "setHostnameAsFQDN-in-every-way-of-asking",
        "hostname and hostname --fqdn both return the FQDN; /etc/hostname and the hosts file keep the short name",
        """
restartPolicy: Never
hostname: busybox-1
subdomain: busybox-subdomain
setHostnameAsFQDN: true
containers:
- {c: c, command: [sh, -c, 'hostname; hostname -f; uname -n']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "(busybox-1\\.busybox-subdomain\\.default\\.svc\\.cluster\\.local\n){3}"},
    ),
    Behaviour(
        "hostAliases",
        "lines at the end of /etc/hosts, under their heading",
        """
restartPolicy: Never
hostAliases: [{ip: "127.0.0.1", hostnames: [foo.local, bar.local]}, {ip: "10.1.2.3", hostnames: [foo.remote]}]
containers: [{c: c, command: [sh, -c, 'head -1 /etc/hosts; tail -3 /etc/hosts']}]
""",
        status={"phase": "Succeeded"},
        logs={
            "c": "# Kubernetes-managed hosts file.\n# Entries added by HostAliases.\n127.0.0.1\tfoo.local\tbar.local\n"
            "10.1.2.3\tfoo.remote\n"
        },
    ),
    Behaviour(
        "addresses-in-the-environment",
        "status.podIP, status.podIPs and the pod's own status agree",
        """
restartPolicy: Never
containers:
- {c: c, command: [sh, -c, 'echo $IP; echo $IPS; grep -c "^$IP" /etc/hosts; ip -o addr show eth0 | grep -c "$IP"'],
   env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
         {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]}
""",
        status={"phase": "Succeeded"},
        logs={"c": r"10\.199\.\S+\n10\.199\.\S+,fd85:77::\S+\n1\n1\n"},
    ),
]


@pytest.mark.parametrize("row", WITH_A_NETWORK, ids=lambda row: row.name)
async def test_identity_with_a_network(networked: Kubelet, row: Behaviour) -> None:
    await check(networked, row)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_identity(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)


@pytest.fixture
def host_segment() -> Iterator[int]:
    """The identifier of a System V shared memory segment of the host's, which says `of the host`: shmget(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    id = libc.shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0o600)
    assert id >= 0, os.strerror(ctypes.get_errno())
    try:
        address = libc.shmat(id, None, 0)
        ctypes.memmove(address, b"of the host", 11)
        assert libc.shmdt(ctypes.c_void_p(address)) == 0
        yield id
    finally:
        assert libc.shmctl(id, IPC_RMID, None) == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [("hostIPC: true", "of the host\n(1)\n"), ("hostIPC: false", "Invalid argument\n(0)\n")],
    ids=["hostIPC", "an-ipc-namespace-of-its-own"],
)
async def test_shared_memory_of_the_host(kubelet: Kubelet, host_segment: int, spec: str, said: str) -> None:
    """ipc_namespaces(7): the identifier of a segment means something in its own namespace only. Perl has shmread(),
    /proc/sysvipc/shm lists the segments that are there."""
    script = (
        f"perl -e 'print shmread({host_segment}, $_, 0, 11) ? $_ : $!, \"\\n\"';"
        f" echo \"($(awk '$2 == {host_segment}' /proc/sysvipc/shm | wc -l))\""
    )
    spec = f"{spec}\nrestartPolicy: Never\ncontainers: [{{c: c, command: [sh, -c, {json.dumps(script)}]}}]"
    await check(kubelet, Behaviour("", "", spec, status={"phase": "Succeeded"}, logs={"c": re.escape(said)}))


async def test_cluster_first(kubelet: Kubelet, short_tmp: str) -> None:
    """ClusterFirst: the cluster's server, the namespace's domains before the node's, ndots:5; and without a
    clusterDNS the node's (podlite does not warn of that as a node would: there is no cluster)."""
    with open(f"{short_tmp}/resolv.conf", "w") as file:
        file.write("nameserver 192.0.2.53\nsearch example.com\n")
    config = structs.replace(kubelet.config, resolv_conf=f"{short_tmp}/resolv.conf", cluster_dns=("10.96.0.10",))
    spec = "restartPolicy: Never\ncontainers: [{c: c, command: [cat, /etc/resolv.conf]}]"
    row = Behaviour(
        "ClusterFirst",
        "",
        spec,
        logs={
            "c": "search default.svc.cluster.local svc.cluster.local cluster.local example.com\n"
            "nameserver 10.96.0.10\noptions ndots:5\n"
        },
    )
    await with_config(kubelet, config, row)
    config = structs.replace(config, cluster_dns=())
    row = row._replace(logs={"c": "search example.com\nnameserver 192.0.2.53\n"})
    await with_config(kubelet, config, row)


async def test_runtime_classes_are_handlers(kubelet: Kubelet) -> None:
    """A RuntimeClass names the handler that RunPodSandbox is given."""
    config = structs.replace(kubelet.config, runtime_handlers={"fast": "podlite", "vm": "kata"})
    async with Kubelet(kubelet.runtime, kubelet.images, config) as other:
        [pod] = load("runtimeClassName: fast\ncontainers: [{c: c, command: [sleep, '1000']}]").pods
        uid = (await other.add_pod(pod)).metadata.uid
        await reached(other, uid, {"phase": "Running"})
        [sandbox] = await other.runtime.list_pod_sandbox()
        assert sandbox.runtime_handler == "podlite"
        [pod] = load("runtimeClassName: vm\ncontainers: [{c: c}]", name="second").pods
        other_uid = (await other.add_pod(pod)).metadata.uid
        await told(
            other,
            other_uid,
            ['Warning FailedCreatePodSandBox Failed to create pod sandbox: no runtime for "kata" is configured.*'],
        )
        await other.delete_pod(other_uid, 0)
        await other.wait_removed(other_uid)
        await other.delete_pod(uid, 0)
        await other.wait_removed(uid)


async def with_config(kubelet: Kubelet, config: object, row: Behaviour) -> None:
    async with Kubelet(kubelet.runtime, kubelet.images, config) as other:  # type: ignore[arg-type]
        pod = await check(other, row)
        await other.delete_pod(pod.metadata.uid, 0)
        await other.wait_removed(pod.metadata.uid)


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("{containerPort: 80, hostPort: 18080}", "{containerPort: 81, hostPort: 18080}", True),
        ("{containerPort: 80, hostPort: 18080}", "{containerPort: 80, hostPort: 18080, protocol: UDP}", False),
        (
            "{containerPort: 80, hostPort: 18080, hostIP: 127.0.0.1}",
            "{containerPort: 80, hostPort: 18080, hostIP: 127.0.0.2}",
            False,
        ),
        ("{containerPort: 80, hostPort: 18080, hostIP: 127.0.0.1}", "{containerPort: 80, hostPort: 18080}", True),
    ],
)
async def test_host_ports_that_clash(networked: Kubelet, first: str, second: str, clash: bool) -> None:
    """NodePorts of the scheduler's predicates: the second pod is not admitted, and nothing is made for it."""
    spec = "containers: [{c: c, command: [sleep, '1000'], ports: [%s]}]"
    [one] = load(spec % first, name="one").pods
    uid = (await networked.add_pod(one)).metadata.uid
    await reached(networked, uid, {"phase": "Running"})
    [two] = load(spec % second, name="two").pods
    uid = (await networked.add_pod(two)).metadata.uid
    if not clash:
        await reached(networked, uid, {"phase": "Running"})
        return
    pod = await reached(networked, uid, {"phase": "Failed"})
    assert pod.status.reason == "NodePorts"
    await told(networked, uid, ["Warning NodePorts .*"])
    assert networked.runtime_status(uid).sandboxes == ()
