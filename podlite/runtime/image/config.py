"""The configuration of an image: what it says of itself, as far as running it is concerned.

Source: OCI image-spec config.md, and Docker's image specification v1.2, whose JSON is the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from podlite.cri.errors import ImageError


class ImageConfig(msgspec.Struct, omit_defaults=True):
    """`env` is a list of `NAME=value`; `volumes` are absolute paths; `exposed_ports` read `80/tcp`.

    `architecture`, `os` and `variant` are in Go's terms (amd64, linux, v8); `created` is as it stands in the image.
    """

    entrypoint: list[str] = []
    cmd: list[str] = []
    env: list[str] = []
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: list[str] = []
    labels: dict[str, str] = {}
    exposed_ports: list[str] = []
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str = ""


class _Execution(msgspec.Struct, rename="pascal", omit_defaults=True):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    volumes: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, Any] | None = None


class _RootFS(msgspec.Struct):
    type: str = ""
    diff_ids: list[str] | None = None


class _Document(msgspec.Struct, omit_defaults=True):
    config: _Execution | None = None
    rootfs: _RootFS | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    created: str | None = None


def parse_image_config(raw: bytes, what: str = "the image's configuration") -> tuple[ImageConfig, list[str]]:
    """Reads a configuration blob; returns it with the diffIDs of the layers, lowest first.

    `what` names it in messages. Fields that say nothing about running are ignored. Raises ImageError.
    """
    from podlite.runtime.image.reference import InvalidReferenceError, check_digest

    try:
        document = msgspec.json.decode(raw, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{what} cannot be read: {error}") from error
    if document.rootfs is None or document.rootfs.type != "layers":
        raise ImageError(f"{what} does not list the layers of a root file system: rootfs.type is not 'layers'")
    diff_ids = document.rootfs.diff_ids or []
    for diff_id in diff_ids:
        try:
            check_digest(diff_id)
        except InvalidReferenceError as error:
            raise ImageError(f"{what} has a bad diffID, {diff_id!r}: {error}") from error
    execution = document.config or _Execution()
    for text in (*(execution.env or ()), *(execution.entrypoint or ()), *(execution.cmd or ())):
        if "\0" in text:
            raise ImageError(f"{what} has a zero byte in a command or an environment variable: {text!r}")
    config = ImageConfig(
        entrypoint=execution.entrypoint or [],
        cmd=execution.cmd or [],
        env=execution.env or [],
        working_dir=execution.working_dir or "",
        user=execution.user or "",
        stop_signal=execution.stop_signal or "",
        volumes=sorted(execution.volumes or ()),
        labels=execution.labels or {},
        exposed_ports=sorted(execution.exposed_ports or ()),
        architecture=document.architecture or "",
        os=document.os or "",
        variant=document.variant or "",
        created=document.created or "",
    )
    return config, diff_ids


def oci_configuration(config: ImageConfig) -> bytes:
    """The configuration in its own JSON, without what says nothing about running. Pure."""
    execution = _Execution(
        entrypoint=config.entrypoint or None,
        cmd=config.cmd or None,
        env=config.env or None,
        working_dir=config.working_dir or None,
        user=config.user or None,
        stop_signal=config.stop_signal or None,
        volumes={each: {} for each in config.volumes} or None,
        labels=config.labels or None,
        exposed_ports={each: {} for each in config.exposed_ports} or None,
    )
    document = _Document(
        config=execution,
        architecture=config.architecture or None,
        os=config.os or None,
        variant=config.variant or None,
        created=config.created or None,
    )
    return msgspec.json.encode(document)


def image_user(user: str) -> tuple[int | None, str]:
    """What CRI tells of an image's user, as (uid, username), at most one of them set; a group is left out."""
    name = user.partition(":")[0]
    digits = name.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        return int(name), ""
    return None, name
