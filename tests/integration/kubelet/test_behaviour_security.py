"""Security contexts, by what a process in the container finds about itself in /proc/self/status.

Sources: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/,
https://kubernetes.io/docs/concepts/security/pod-security-standards/ (the safe sysctls),
https://kubernetes.io/docs/tutorials/security/seccomp/, capabilities(7) for the numbers, and
pkg/kubelet/kuberuntime/security_context.go for texts.
"""

from __future__ import annotations

import json
import os

import pytest
from msgspec import structs

from podlite.kubelet.kubelet import Kubelet
from tests.support.behaviours import Behaviour, check, ended, load, log_of, reached, told

pytestmark = [pytest.mark.root, pytest.mark.anyio]

# The default set of the container engines (moby/profiles, containerd oci.defaultUnixCaps), without and with a change.
DEFAULT = "00000000a80425fb"
STATUS = "command: [sh, -c, \"grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status\"]"


def status(**fields: str) -> str:
    """The lines of /proc/PID/status as a pattern; what is not named may be anything."""
    lines = []
    for name in ("Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
        value = fields.get(name, "[^\n]*")
        lines.append(rf"{name}:\s*{value}\s*\n")
    return "".join(lines)


TABLE = [
    Behaviour(
        "the-pod's-and-the-container's-own",
        "a container's settings override the pod's",
        f"""
restartPolicy: Never
securityContext: {{runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000]}}
containers:
- {{c: a, {STATUS}}}
- {{c: b, securityContext: {{runAsUser: 2000}}, {STATUS}}}
""",
        status={"phase": "Succeeded", "containerStatuses[b].user.linux.uid": 2000},
        logs={
            "a": status(Uid=r"1000\s+1000\s+1000\s+1000", Gid=r"3000\s+.*", Groups="3000 4000", CapEff="0{16}"),
            "b": status(Uid=r"2000\s+.*", Gid=r"3000\s+.*"),
        },
    ),
    Behaviour(
        "runAsNonRoot-with-root",
        "verifyRunAsNonRoot: container's runAsUser breaks non-root policy",
        """
securityContext: {runAsNonRoot: true}
containers: [{c: c, securityContext: {runAsUser: 0}}]
""",
        until={"containerStatuses[c].state.waiting.reason": "CreateContainerConfigError"},
        events=(r"Warning Failed Error: container's runAsUser breaks non-root policy \(pod: .*",),
    ),
    Behaviour(
        "runAsNonRoot-with-an-image-of-root",
        "verifyRunAsNonRoot: container has runAsNonRoot and image will run as root",
        """
containers: [{c: c, securityContext: {runAsNonRoot: true}}]
""",
        until={"containerStatuses[c].state.waiting.reason": "CreateContainerConfigError"},
        events=(r"Warning Failed Error: container has runAsNonRoot and image will run as root \(pod: .*",),
    ),
    Behaviour(
        "capabilities",
        "add NET_ADMIN (12) and drop CHOWN (0) from the default set; drop ALL and add one",
        f"""
restartPolicy: Never
containers:
- {{c: a, {STATUS}}}
- {{c: b, securityContext: {{capabilities: {{add: [NET_ADMIN], drop: [CHOWN]}}}}, {STATUS}}}
- {{c: d, securityContext: {{capabilities: {{add: [NET_BIND_SERVICE], drop: [ALL]}}}}, {STATUS}}}
""",
        status={"phase": "Succeeded"},
        logs={
            "a": status(CapEff=DEFAULT, CapBnd=DEFAULT),
            "b": status(CapEff="00000000a80435fa", CapBnd="00000000a80435fa"),
            "d": status(CapEff="0000000000000400", CapBnd="0000000000000400"),
        },
    ),
    Behaviour(
        "privileged",
        "all capabilities, no masked paths, all devices",
        """
restartPolicy: Never
containers:
- {c: c, securityContext: {privileged: true}, command: [sh, -c, 'touch /proc/sys/kernel/x 2>&1 | grep -c Read-only;
   test -w /proc/sys/kernel/hostname && echo writable; awk "/Seccomp:/ {print \\$2}" /proc/self/status']}
- {c: d, command: [sh, -c, 'echo x 2>/dev/null > /proc/sys/kernel/hostname || echo protected; ls /proc/acpi | wc -l']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "0\nwritable\n0\n", "d": "protected\n0\n"},
    ),
    Behaviour(
        "readOnlyRootFilesystem",
        "the root is read-only, volumes are not",
        """
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
containers:
- {c: c, securityContext: {readOnlyRootFilesystem: true}, volumeMounts: [{name: v, mountPath: /v}],
   command: [sh, -c, 'touch /x 2>/dev/null || echo protected; touch /v/x && echo writable']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "protected\nwritable\n"},
    ),
    Behaviour(
        "allowPrivilegeEscalation",
        "whether no_new_privs is set; off by default",
        f"""
restartPolicy: Never
containers:
- {{c: a, securityContext: {{allowPrivilegeEscalation: false}}, {STATUS}}}
- {{c: b, {STATUS}}}
""",
        status={"phase": "Succeeded"},
        logs={"a": status(NoNewPrivs="1"), "b": status(NoNewPrivs="0")},
    ),
    Behaviour(
        "seccomp",
        "Seccomp: 2 is SECCOMP_MODE_FILTER (seccomp(2)); a pod's profile is a default, none is none",
        f"""
restartPolicy: Never
securityContext: {{seccompProfile: {{type: RuntimeDefault}}}}
containers:
- {{c: a, {STATUS}}}
- {{c: b, securityContext: {{seccompProfile: {{type: Unconfined}}}}, {STATUS}}}
- {{c: d, command: [unshare, --user, "true"]}}
""",
        status={"phase": "Failed", "containerStatuses[d].state.terminated.exitCode": 1},
        logs={"a": status(Seccomp="2"), "b": status(Seccomp="0"), "d": ".*Operation not permitted\n"},
    ),
    Behaviour(
        "sysctls-that-are-safe",
        "set in the pod's own namespaces",
        """
restartPolicy: Never
securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"},
                            {name: net.ipv4.ip_local_port_range, value: "40000 41000"},
                            {name: net.ipv4.tcp_syncookies, value: "0"}]}
containers:
- {c: c, command: [sh, -c, 'cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_local_port_range']}
""",
        status={"phase": "Succeeded"},
        logs={"c": "1\n40000\t41000\n"},
    ),
    Behaviour(
        "sysctls-that-are-not",
        "pkg/kubelet/sysctl: SysctlForbidden",
        """
securityContext: {sysctls: [{name: net.core.somaxconn, value: "1024"}]}
containers: [{c: c}]
""",
        status={
            "phase": "Failed",
            "reason": "SysctlForbidden",
            "message": 'Pod was rejected: forbidden sysctl: "net.core.somaxconn" not allowlisted',
        },
        events=('Warning SysctlForbidden forbidden sysctl: "net.core.somaxconn" not allowlisted',),
    ),
    Behaviour(
        "SELinux-options-without-SELinux",
        "a runtime on a kernel without SELinux has no use for them, and the pod runs",
        """
restartPolicy: Never
securityContext: {seLinuxOptions: {level: "s0:c1,c2"}}
containers: [{c: c, command: ["true"]}]
""",
        status={"phase": "Succeeded"},
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_security(kubelet: Kubelet, row: Behaviour) -> None:
    await check(kubelet, row)


@pytest.mark.skipif(os.path.exists("/sys/kernel/security/apparmor"), reason="this kernel has AppArmor")
async def test_an_AppArmor_profile_without_AppArmor(kubelet: Kubelet) -> None:
    """pkg/kubelet/lifecycle/handlers.go: the pod is not admitted."""
    spec = (
        "containers: [{c: c, securityContext: {appArmorProfile: {type: %s}}, command: ['true']}]\nrestartPolicy: Never"
    )
    await check(
        kubelet,
        Behaviour(
            "RuntimeDefault",
            "",
            spec % "RuntimeDefault",
            status={
                "phase": "Failed",
                "reason": "AppArmor",
                "message": "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host",
            },
        ),
    )
    [pod] = load(spec % "Unconfined", name="second").pods
    assert (await ended(kubelet, (await kubelet.add_pod(pod)).metadata.uid)).status.phase == "Succeeded"


async def test_a_local_seccomp_profile(kubelet: Kubelet, short_tmp: str) -> None:
    """`localhostProfile` is a path below the kubelet's seccomp directory (there: <root-dir>/seccomp)."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    os.makedirs(f"{short_tmp}/profiles", exist_ok=True)
    with open(f"{short_tmp}/profiles/no-mkdir.json", "w") as file:
        json.dump(profile, file)
    config = structs.replace(kubelet.config, seccomp_profile_root=short_tmp)
    spec = """
restartPolicy: Never
containers:
- {c: c, securityContext: {seccompProfile: {type: Localhost, localhostProfile: profiles/%s}},
   command: [sh, -c, 'mkdir /x; touch /y && echo fine']}
"""
    async with Kubelet(kubelet.runtime, kubelet.images, config) as other:
        [pod] = load(spec % "no-mkdir.json").pods
        uid = (await other.add_pod(pod)).metadata.uid
        pod = await ended(other, uid)
        assert await log_of(other, pod, "c") == "mkdir: cannot create directory '/x': No space left on device\nfine\n"
        await other.delete_pod(uid, 0)
        await other.wait_removed(uid)
        # pkg/kubelet/kuberuntime: CreateContainer fails for it, in containerd; it is tried again until it is there.
        [pod] = load(spec % "later.json", name="second").pods
        uid = (await other.add_pod(pod)).metadata.uid
        pod = await reached(other, uid, {"containerStatuses[c].state.waiting.reason": "CreateContainerError"})
        waiting = pod.status.container_statuses[0].state.waiting
        assert waiting is not None
        assert "later.json" in waiting.message
        await told(other, uid, ["Warning Failed Error: .*later.json cannot be read: No such file or directory"])
        with open(f"{short_tmp}/profiles/later.json", "w") as file:
            file.write("[]")
        await told(other, uid, ["Warning Failed Error: the seccomp profile .*later.json cannot be used: .*"])
        os.rename(f"{short_tmp}/profiles/no-mkdir.json", f"{short_tmp}/profiles/later.json")
        assert (await ended(other, uid)).status.phase == "Succeeded"
        await other.delete_pod(uid, 0)
        await other.wait_removed(uid)
