"""The verbose answers: what podlite knows of a sandbox, a container or itself beyond CRI's fields, as JSON.

The keys `pid`, `sandboxID`, `imageSpec` and `runtimeSpec.linux.namespaces` are where containerd has them, because
scripts look there (`crictl inspectp | jq .info.pid`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from podlite.runtime.image.config import oci_configuration
from podlite.version import __version__

if TYPE_CHECKING:
    from podlite.runtime.image.record import ImageRecord
    from podlite.runtime.service import Runtime
    from podlite.runtime.store import Container, Sandbox


def sandbox_info(sandbox: Sandbox) -> dict[str, str]:
    """PodSandboxStatusResponse.info."""
    return _info(
        {
            "pid": sandbox.shim.pid if sandbox.shim is not None and not sandbox.shim.gone else 0,
            "directory": sandbox.directory,
            "runtimeHandler": sandbox.runtime_handler,
            "runtimeSpec": {"linux": {"namespaces": _namespaces(sandbox.netns_path)}},
            "network": sandbox.network,
            "config": sandbox.config,
        }
    )


def container_info(container: Container) -> dict[str, str]:
    """ContainerStatusResponse.info."""
    return _info(
        {
            "sandboxID": container.sandbox.id,
            "pid": container.pid,
            "cgroup": container.cgroup,
            "runtimeSpec": {"linux": {"namespaces": _namespaces(container.sandbox.netns_path)}},
            "config": container.config,
        }
    )


def image_info(record: ImageRecord, configuration: bytes | None) -> dict[str, str]:
    """ImageStatusResponse.info: `imageSpec` is the image's configuration as it came, or what is known of it."""
    whole = configuration if configuration is not None else oci_configuration(record.config)
    return _info({"imageSpec": msgspec.Raw(whole), "layers": record.layers})


def runtime_info(runtime: Runtime) -> dict[str, str]:
    """StatusResponse.info."""
    cgroups = runtime.cgroups
    return {
        "config": _json(
            {
                "version": __version__,
                "layout": runtime.layout,
                "network": runtime.networks.default.name,
                "cgroups": cgroups.describe() if cgroups is not None else "none",
                "sandboxes": len(runtime.store.sandboxes),
                "containers": len(runtime.store.containers),
            }
        )
    }


def _namespaces(netns_path: str) -> list[dict[str, str]]:
    return [{"type": "network", "path": netns_path}] if netns_path else []


def _info(facts: dict[str, Any]) -> dict[str, str]:
    return {"info": _json(facts)}


def _json(facts: dict[str, Any]) -> str:
    return msgspec.json.encode(facts).decode()
