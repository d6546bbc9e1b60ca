"""The manifest of a pod that `podlite run --image` describes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from podlite.errors import UsageError


def image_pod(arguments: argparse.Namespace, command: list[str]) -> str:
    """The manifest as JSON text. Pure. Raises UsageError."""
    container: dict[str, Any] = {"name": "main", "image": arguments.image}
    if command:
        container["command"] = command
    if arguments.env:
        container["env"] = [_variable(text) for text in arguments.env]
    if arguments.publish:
        container["ports"] = [published_port(text) for text in arguments.publish]
    volumes = [_volume(index, text) for index, text in enumerate(arguments.volume)]
    if volumes:
        container["volumeMounts"] = [mount for _, mount in volumes]
    spec: dict[str, Any] = {"restartPolicy": arguments.restart, "containers": [container]}
    if volumes:
        spec["volumes"] = [volume for volume, _ in volumes]
    name = arguments.name or name_of(arguments.image)
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def _variable(text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        import os

        # As `docker run -e NAME`: the variable of the caller.
        value = os.environ.get(name, "")
    return {"name": name, "value": value}


def published_port(text: str) -> dict[str, Any]:
    """`8080:80`, `8080:80/udp`, `127.0.0.1:8080:80`, `[::1]:8080:80` as a container's port. Pure. Raises UsageError."""
    numbers, slash, protocol = text.partition("/")
    before, _, container = numbers.rpartition(":")
    address, colon, host = before.rpartition(":")
    if not host.isdecimal() or not container.isdecimal():
        raise UsageError(
            f"-p {text}: it has to be HOST:CONTAINER, two port numbers, as in 8080:80 or 127.0.0.1:53:53/udp"
        )
    port: dict[str, Any] = {"hostPort": int(host), "containerPort": int(container)}
    if colon:
        port["hostIP"] = address.removeprefix("[").removesuffix("]")
    if slash:
        port["protocol"] = protocol.upper()
    return port


def _volume(index: int, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    host, colon, path = text.partition(":")
    if not host or not colon or not path:
        raise UsageError(f"-v {text}: it has to be HOST:PATH, or HOST:PATH:ro")
    path, _, mode = path.partition(":")
    if mode not in ("", "ro", "rw"):
        raise UsageError(f"-v {text}: {mode!r} is neither ro nor rw")
    import os

    name = f"volume-{index}"
    mount = {"name": name, "mountPath": path, "readOnly": mode == "ro"}
    return {"name": name, "hostPath": {"path": os.path.abspath(host)}}, mount


def name_of(image: str) -> str:
    """A pod's name from an image's: its last component, without tag or digest, as a DNS label."""
    base = image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    label = "".join(each if each.isalnum() and each.isascii() else "-" for each in base).strip("-")[:63]
    return label or "pod"
