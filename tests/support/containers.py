"""Short ways to ask podlite's runtime for sandboxes and containers."""

from __future__ import annotations

import os
from typing import Any

import anyio

from podlite.cri.types import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    KeyValue,
    LinuxContainerConfig,
    LinuxContainerResources,
    LinuxContainerSecurityContext,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from podlite.runtime.names import new_uid
from podlite.runtime.service import Runtime

HOST_IMAGE = "podlite.local/host:1"

# The kubelet's defaults (pkg/securitycontext: defaultMaskedPaths, defaultReadonlyPaths).
MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def sandbox_config(runtime: Runtime, name: str = "pod", **options: Any) -> PodSandboxConfig:
    """A sandbox as the kubelet asks for it; `options` are those of NamespaceOption."""
    uid = new_uid()
    namespaces = NamespaceOption(**{"pid": NamespaceMode.CONTAINER, **options})
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=name, uid=uid, namespace="default"),
        hostname="" if namespaces.network == NamespaceMode.NODE else name,
        log_directory=f"{runtime.layout.log_dir}/default_{name}_{uid}",
        linux=LinuxPodSandboxConfig(
            cgroup_parent=f"{runtime.layout.cgroup_root}/kubepods/pod{uid}",
            security_context=LinuxSandboxSecurityContext(namespace_options=namespaces),
        ),
    )


def container_config(
    command: list[str], name: str = "main", *, image: str = HOST_IMAGE, **fields: Any
) -> ContainerConfig:
    """A container as the kubelet asks for it; fields of the security context and of the config may be given."""
    security: dict[str, Any] = {
        "namespace_options": fields.pop("namespace_options", NamespaceOption(pid=NamespaceMode.CONTAINER)),
        "masked_paths": MASKED_PATHS,
        "readonly_paths": READONLY_PATHS,
    }
    for key in LinuxContainerSecurityContext.__struct_fields__:
        if key in fields:
            security[key] = fields.pop(key)
    resources = fields.pop("resources", LinuxContainerResources())
    env = fields.pop("env", {})
    return ContainerConfig(
        metadata=ContainerMetadata(name=name, attempt=fields.pop("attempt", 0)),
        image=ImageSpec(image=image),
        command=command,
        envs=[KeyValue(key=key, value=value.encode()) for key, value in env.items()],
        log_path=f"{name}/0.log",
        linux=LinuxContainerConfig(resources=resources, security_context=LinuxContainerSecurityContext(**security)),
        **fields,
    )


class Run:
    """What a container did."""

    def __init__(self, id: str, code: int, reason: str, stdout: str, stderr: str) -> None:
        self.id = id
        self.code = code
        self.reason = reason
        self.stdout = stdout
        self.stderr = stderr


async def start(runtime: Runtime, sandbox_id: str, config: ContainerConfig) -> str:
    """Creates and starts a container; returns its id."""
    sandbox = runtime.store.sandbox(sandbox_id)
    id = await runtime.create_container(sandbox_id, config, sandbox.config)
    await runtime.start_container(id)
    return id


async def run(runtime: Runtime, sandbox_id: str, config: ContainerConfig) -> Run:
    """Runs a container to its end."""
    id = await start(runtime, sandbox_id, config)
    return await finished(runtime, id)


async def finished(runtime: Runtime, id: str) -> Run:
    """Waits for a container's end and reads its log."""
    container = runtime.store.containers[id]
    with anyio.fail_after(60):
        await container.exited.wait()
    output = read_log(container.log_path)
    return Run(id, container.exit_code, container.reason, output["stdout"].decode(), output["stderr"].decode())


async def sh(runtime: Runtime, script: str, **fields: Any) -> Run:
    """Runs a shell script as the only container of a sandbox of its own, and removes both."""
    sandbox_options = fields.pop("sandbox", {})
    id = await runtime.run_pod_sandbox(sandbox_config(runtime, **sandbox_options))
    try:
        return await run(runtime, id, container_config(["/bin/sh", "-c", script], **fields))
    finally:
        await runtime.remove_pod_sandbox(id)


def read_log(path: str) -> dict[str, bytes]:
    """A CRI log's streams, byte for byte."""
    streams = {"stdout": bytearray(), "stderr": bytearray()}
    with open(path, "rb") as file:
        for line in file.read().split(b"\n")[:-1]:
            _, stream, tag, text = line.split(b" ", 3)
            streams[stream.decode()] += text + (b"\n" if tag == b"F" else b"")
    return {name: bytes(content) for name, content in streams.items()}


def fd_count() -> int:
    """The open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
