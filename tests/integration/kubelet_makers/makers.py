"""Pods for these tests, and their volumes set up."""

from __future__ import annotations

from typing import Any

import anyio

from podlite.api.container import Container, VolumeMount
from podlite.api.meta import ObjectMeta
from podlite.api.pod import Pod, PodSpec
from podlite.api.security import PodSecurityContext
from podlite.api.volumes import Volume
from podlite.kubelet.objects import Objects
from podlite.kubelet.types import KubeletConfig
from podlite.kubelet.volumes.manager import VolumeManager


def make_pod(*volumes: Volume, mounts: list[VolumeMount] | None = None, uid: str = "u-1", **security: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid=uid),
        spec=PodSpec(
            containers=[Container(name="c", volume_mounts=mounts or [])],
            volumes=list(volumes),
            security_context=PodSecurityContext(**security) if security else None,
        ),
    )


def set_up(pod: Pod, config: KubeletConfig, objects: Objects | None = None) -> dict[str, str]:
    async def run() -> dict[str, str]:
        return await VolumeManager(config, objects or Objects()).set_up(pod)

    return anyio.run(run)


def tear_down(config: KubeletConfig, uid: str = "u-1") -> None:
    """By a manager that has not set them up."""

    async def run() -> None:
        await VolumeManager(config, Objects()).tear_down(uid)

    anyio.run(run)


def mounts_below(directory: str) -> list[str]:
    """Mount points below a directory, innermost first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            path = line.split()[4].encode().decode("unicode_escape")
            if path.startswith(f"{directory}/"):
                found.append(path)
    return found[::-1]
