"""What was handed to the agent and has to outlive it, and the machine: pods, ConfigMaps and Secrets.

    <state dir>/agent/pods/<uid>.json                    a pod as it is wanted, with the last status that counts
    <state dir>/agent/configmaps/<namespace>_<name>.json
    <state dir>/agent/secrets/<namespace>_<name>.json

Every file is replaced atomically, by way of a `.<name>.json`, and fsynced before anybody is told that the object was
taken on, or is gone.
Everything here blocks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import msgspec

from podlite import log
from podlite.api.base import Object
from podlite.api.config import ConfigMap, Secret
from podlite.api.decode import from_builtins
from podlite.api.pod import Pod
from podlite.errors import explain
from podlite.linux.fs import read_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T", bound=Object)

_KINDS = {"ConfigMap": "configmaps", "Secret": "secrets"}


class DurableStore:
    """The files below one state directory."""

    def __init__(self, state_dir: str) -> None:
        self._directory = f"{state_dir}/agent"

    def tidy(self) -> None:
        """Removes what a write that was cut short has left; for when nobody writes yet. Raises OSError."""
        for kind in ("pods", *_KINDS.values()):
            try:
                names = os.listdir(f"{self._directory}/{kind}")
            except FileNotFoundError:
                continue
            for name in names:
                if name.startswith("."):
                    os.unlink(f"{self._directory}/{kind}/{name}")

    # --- pods -------------------------------------------------------------------------------

    def put_pod(self, pod: Pod) -> None:
        """Writes the pod down, or what has become of it. Raises OSError."""
        self._write("pods", pod.metadata.uid, pod)

    def remove_pod(self, uid: str) -> None:
        """Forgets the pod. Idempotent. Raises OSError."""
        self._remove("pods", uid)

    def pods(self) -> list[Pod]:
        """Every pod, oldest first; unreadable files are left out, and logged."""
        found = list(self._read("pods", Pod))
        return sorted(found, key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.name))

    # --- ConfigMaps and Secrets -------------------------------------------------------------

    def put_object(self, value: ConfigMap | Secret) -> None:
        """Raises OSError."""
        self._write(_KINDS[value.kind], _object_name(value), value)

    def remove_object(self, value: ConfigMap | Secret) -> None:
        """Idempotent. Raises OSError."""
        self._remove(_KINDS[value.kind], _object_name(value))

    def objects(self) -> list[ConfigMap | Secret]:
        """Every one; unreadable files are left out, and logged."""
        return [*self._read("configmaps", ConfigMap), *self._read("secrets", Secret)]

    # --- files ------------------------------------------------------------------------------

    def _write(self, kind: str, name: str, value: Object) -> None:
        directory = f"{self._directory}/{kind}"
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = f"{directory}/{name}.json"
        replace_file(path, msgspec.json.encode(value), scratch=f"{directory}/.{name}.json", durable=True)

    def _remove(self, kind: str, name: str) -> None:
        directory = f"{self._directory}/{kind}"
        try:
            os.unlink(f"{directory}/{name}.json")
        except FileNotFoundError:
            return
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _read(self, kind: str, type: type[T]) -> Iterator[T]:
        directory = f"{self._directory}/{kind}"
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(".") or not name.endswith(".json"):
                continue
            try:
                yield from_builtins(msgspec.json.decode(read_file(f"{directory}/{name}")), type)
            except (OSError, ValueError) as error:
                log.error("an object of the agent's cannot be read", path=f"{directory}/{name}", why=explain(error))


def _object_name(value: ConfigMap | Secret) -> str:
    # Neither a namespace nor the name of such an object can have an underscore in it.
    return f"{value.metadata.namespace or 'default'}_{value.metadata.name}"
