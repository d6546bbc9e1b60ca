"""What `podlite check` says about this machine and user: facts with their consequences, in the order of reading.

Most of it is tried, not looked up (`podlite.linux.probe`); all of it takes some 20 ms.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from podlite.linux import capabilities, cgroups, devices
from podlite.linux.probe import probe

OK, DEGRADED, MISSING = "ok", "degraded", "missing"


class Fact(NamedTuple):
    """`state` is ok; degraded: pods run, with the `consequence`; or missing: `run` cannot work without it.

    `detail` says what was found, `consequence` is one sentence, empty where all is well.
    """

    name: str
    state: str
    detail: str
    consequence: str


# Linux 5.12 has mount_setattr(2), without which no container's mounts can be made; 5.14 has cgroup.kill.
MINIMUM_KERNEL = (5, 12)
GOOD_KERNEL = (5, 14)

_DEGRADING = {
    "SYS_RESOURCE": "oom_score_adj cannot be lowered and hard resource limits cannot be raised",
    "SYS_PTRACE": "processes of containers cannot be looked into for exec and nsenter",
    "NET_RAW": "containers have no raw sockets, so ping may not work in them",
}

# Probe → (what its failure means, and whether `run` can do without).
_PROBES = {
    "mount namespaces": (MISSING, "containers cannot be isolated from the host's mounts, so `run` cannot work"),
    "pid namespaces": (MISSING, "containers cannot be isolated from the host's processes, so `run` cannot work"),
    "network namespaces": (DEGRADED, "only pods with hostNetwork: true can run"),
    "ipc namespaces": (DEGRADED, "only pods with hostIPC: true can run"),
    "uts namespaces": (MISSING, "pods cannot have a hostname of their own, so `run` cannot work"),
    "cgroup namespaces": (DEGRADED, "containers see the names of the host's cgroups"),
    "user namespaces": (DEGRADED, "pods with hostUsers: false cannot run"),
    "mount API": (MISSING, "containers' mounts cannot be prepared, so `run` cannot work"),
    "overlayfs": (MISSING, "images cannot be used as root file systems, so `run` cannot work"),
    "id-mapped mounts": (DEGRADED, "pods with hostUsers: false cannot use volumes"),
    "nftables": (DEGRADED, "pods reach the host and each other, but nothing beyond, and have no host ports"),
    "seccomp": (DEGRADED, "pods that ask for a seccomp profile cannot run"),
    "session keyrings": (DEGRADED, "containers keep the kernel keyring of whoever started podlite"),
}


def facts(cgroup_root: str = "/podlite") -> list[Fact]:
    """All facts. Blocking, about 20 ms; forks, so call it where there is one thread. Leaves nothing behind."""
    result = [kernel_fact(os.uname().release), *capability_facts(capabilities.held())]
    for name, problem in probe().items():
        state, consequence = _PROBES[name]
        result.append(Fact(name, state, problem, consequence) if problem else Fact(name, OK, "", ""))
    result += _cgroups(cgroup_root)
    result += [
        _forwarding("IPv4 forwarding", "/proc/sys/net/ipv4/ip_forward"),
        _forwarding("IPv6 forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"),
    ]
    return result


def can_run(found: list[Fact]) -> bool:
    """Whether `podlite run` can work at all."""
    return not any(fact.state == MISSING for fact in found)


def kernel_fact(release: str) -> Fact:
    """What the version in uname(2)'s release means. Pure."""
    numbers = release.replace("-", ".").split(".")
    try:
        version = int(numbers[0]), int(numbers[1])
    except (IndexError, ValueError):
        return Fact("kernel", DEGRADED, release, "the version cannot be told, so something may be missing")
    if version < MINIMUM_KERNEL:
        return Fact("kernel", MISSING, release, "Linux 5.12 or newer is needed: older ones lack mount_setattr")
    if version < GOOD_KERNEL:
        return Fact("kernel", DEGRADED, release, "before Linux 5.14 containers are killed process by process")
    return Fact("kernel", OK, release, "")


def capability_facts(held: int) -> list[Fact]:
    """What having these capabilities means. Pure but for what the kernel knows."""
    result = []
    for table, state in ((capabilities.ESSENTIAL, MISSING), (_DEGRADING, DEGRADED)):
        for name, consequence in table.items():
            if not capabilities.bit(name) & held:
                result.append(Fact(f"capability {name}", state, "not held", consequence))
    told = {fact.name.removeprefix("capability ") for fact in result}
    others = [name for name in capabilities.names(capabilities.DEFAULT & ~held) if name not in told]
    if others:
        consequence = "containers do not get these of the default capabilities"
        result.append(Fact("default capabilities", DEGRADED, f"not held: {', '.join(others)}", consequence))
    if not result:
        result.append(Fact("capabilities", OK, "all that pods need are held", ""))
    return result


def _cgroups(root: str) -> list[Fact]:
    """Makes a cgroup below `root`, with device rules, and removes it."""
    try:
        here = cgroups.Cgroups.detect(root)
    except OSError as error:
        return [Fact("cgroups", DEGRADED, str(error), "pods run without resource limits and usage")]
    path = f"{root}/check-{os.getpid()}"
    try:
        try:
            created = here.create(path, rules=devices.DEFAULT_RULES)
            kill_file = here.kill_file(path)
        finally:
            here.remove(path)
            here.remove_empty_parents(path)
            here.close()
    except cgroups.CgroupError as error:
        return [Fact("cgroups", DEGRADED, error.message, "pods run without resource limits and usage")]
    result = [Fact("cgroups", OK, here.describe(), "")]
    for controller, consequence in (
        ("cpu", "CPU requests and limits have no effect"),
        ("memory", "memory limits have no effect"),
        ("pids", "the number of processes is not limited"),
    ):
        reason = here.missing.get(controller)
        fact = Fact(f"cgroup {controller}", DEGRADED, reason, consequence) if reason else None
        result.append(fact or Fact(f"cgroup {controller}", OK, here.version_of(controller), ""))
    if not created.devices_limited:
        consequence = "containers' file systems are mounted nodev instead of limiting devices by rules"
        result.append(Fact("device rules", DEGRADED, "neither cgroup v1 devices nor BPF can be used", consequence))
    if not kill_file:
        consequence = "containers are killed process by process"
        result.append(Fact("cgroup.kill", DEGRADED, "no cgroup v2 tree, or Linux before 5.14", consequence))
    return result


def _forwarding(name: str, path: str) -> Fact:
    try:
        with open(path, encoding="utf-8") as file:
            value = file.read().strip()
    except OSError as error:
        return Fact(name, DEGRADED, error.strerror or "", "pods cannot use this address family")
    if value != "0":
        return Fact(name, OK, "on", "")
    if os.access(path, os.W_OK):
        return Fact(name, OK, "off; turned on while pods need it", "")
    return Fact(name, DEGRADED, "off, and it cannot be turned on here", "pods reach nothing beyond this machine")
