"""The attachments that exist or might: one file each, in the form in which libcni keeps them.

    <state-dir>/cni/results/<network>-<container id>-<interface>
    <state-dir>/cni/lock                                            shared by ADD and DEL, exclusive for GC

Written before the first plugin runs and again after each, so that a process which is killed at any point leaves
behind which plugins may have made something (`started`), and the result that they had to work from: `firewall`
removes its rules by the addresses in it, and knows no other way. It lies in the state directory because plugins keep
theirs on disk too: an address that host-local has given out stays taken over a reboot.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.linux.fs import FileLock, read_file, replace_file
from podlite.runtime.journal import boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "cniCacheV1"  # libcni's


class Attachment(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """One network on one pod: all that ADD, CHECK and DEL need, and so part of the pod's record.

    `version` is the negotiated one; `plugins` are as they were configured when the pod was made, whatever the
    configuration says later, and `directories` those in which they were found. `default` says that this is the
    pod's own network, not one beside it.
    """

    network: str
    version: str
    plugins: list[dict[str, Any]]
    directories: list[str]
    container_id: str
    interface: str
    netns: str
    args: list[list[str]] = []
    capabilities: dict[str, Any] = {}
    disable_check: bool = False
    default: bool = False

    @property
    def key(self) -> str:
        return f"{self.network}-{self.container_id}-{self.interface}"


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """podlite's own part of a file: how far ADD came, in which boot."""

    boot: str = ""
    started: int = 0
    attachment: Attachment | None = None


class Cached(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """libcni's cachedInfo, and ours."""

    kind: str = KIND
    container_id: str
    config: str = ""
    if_name: str
    network_name: str
    netns: str = ""
    cni_args: list[list[str]] = []
    capability_args: dict[str, Any] = {}
    result: dict[str, Any] | None = None
    podlite: Progress = Progress()


class Cache:
    """The files. All functions block and raise OSError."""

    def __init__(self, directory: str) -> None:
        """`directory` is <state-dir>/cni."""
        self.directory = directory
        self._directory = f"{directory}/results"
        self._lock_path = f"{directory}/lock"

    def lock(self, *, exclusive: bool = False) -> FileLock:
        """A context manager: attachments may be added and deleted side by side, but not beside GC (SPEC.md 3)."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        return FileLock(self._lock_path, shared=not exclusive)

    def store(self, attachment: Attachment, *, started: int, result: dict[str, Any] | None) -> None:
        """Writes down how far an ADD is about to come."""
        config = {
            "name": attachment.network,
            "cniVersion": attachment.version,
            "disableCheck": attachment.disable_check,
            "plugins": attachment.plugins,
        }
        cached = Cached(
            container_id=attachment.container_id,
            config=base64.b64encode(msgspec.json.encode(config)).decode(),
            if_name=attachment.interface,
            network_name=attachment.network,
            netns=attachment.netns,
            cni_args=attachment.args,
            capability_args=attachment.capabilities,
            result=result,
            podlite=Progress(boot=boot_id(), started=started, attachment=attachment),
        )
        path = self._path(attachment)
        try:
            replace_file(path, msgspec.json.encode(cached), scratch=f"{path}.new", durable=False)
        except FileNotFoundError:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            replace_file(path, msgspec.json.encode(cached), scratch=f"{path}.new", durable=False)

    def load(self, attachment: Attachment) -> Cached | None:
        """What is written down of an attachment; None if nothing is, or it cannot be read."""
        return _read(self._path(attachment))

    def remove(self, attachment: Attachment) -> None:
        """Idempotent."""
        for path in (self._path(attachment), f"{self._path(attachment)}.new"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def every(self) -> Iterator[Cached]:
        """All attachments, of all pods and boots."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for name in sorted(names):
            if not name.endswith(".new") and (found := _read(f"{self._directory}/{name}")) is not None:
                yield found

    def _path(self, attachment: Attachment) -> str:
        return f"{self._directory}/{attachment.key}"


def _read(path: str) -> Cached | None:
    try:
        return msgspec.json.decode(read_file(path), type=Cached)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
