"""The ConfigMaps and Secrets of this kubelet, and word of their changes, so that volumes follow them.

They come from the manifests, or from files and directories as `kubectl create configmap --from-file` takes them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite.kubelet.types import KubeletError, ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podlite.api.base import Object
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.pod import Pod

    # Called with (kind, namespace, name) after each change.
    Watcher = Callable[[str, str, str], None]

CONFIG_MAP, SECRET = "ConfigMap", "Secret"

# v1.MaxSecretSize; a ConfigMap may be as large.
_MAX_SIZE = 1024 * 1024
_KEY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Objects(ObjectStore):
    """An object store that tells its watchers what was added, changed or removed. For one thread: the event loop's."""

    __slots__ = ("_watchers",)

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._watchers: tuple[Watcher, ...] = ()
        super().__init__(objects)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Calls `watcher` after every change; returns the call that ends this."""
        self._watchers = (*self._watchers, watcher)

        def stop() -> None:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

        return stop

    def update(self, objects: Iterable[Object]) -> None:
        """Adds or replaces objects; one that is the same as before is no change.

        Raises KubeletError, with the API server's text, for a change of an immutable one; those before it are kept.
        """
        for each in objects:
            kind, namespace, name = _key(each)
            before = self.get(kind, namespace, name)
            if before == each:
                continue
            if before is not None and getattr(before, "immutable", None):
                _check_immutable(kind, name, before, each)
            super().update((each,))
            self._tell(kind, namespace, name)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forgets an object; volumes made of it keep what they have. Idempotent."""
        if self._objects.pop((kind, namespace or "default", name), None) is not None:
            self._tell(kind, namespace or "default", name)

    def _tell(self, kind: str, namespace: str, name: str) -> None:
        for watcher in self._watchers:
            watcher(kind, namespace, name)


def _key(value: Object) -> tuple[str, str, str]:
    found = value  # kind and metadata are those of every top-level object
    return found.kind, found.metadata.namespace or "default", found.metadata.name  # type: ignore[attr-defined]


def _check_immutable(kind: str, name: str, before: Object, after: Object) -> None:
    for field in ("immutable", "data", "binary_data", "type"):
        if getattr(before, field, None) != getattr(after, field, None):
            wire = "binaryData" if field == "binary_data" else field
            raise KubeletError(
                f'{kind} "{name}" is invalid: {wire}: Forbidden: field is immutable when `immutable` is set',
                reason="Invalid",
            )


def refers_to(pod: Pod, kind: str, name: str) -> bool:
    """Whether a volume of the pod shows that ConfigMap or Secret (of the pod's own namespace). Pure."""
    for volume in pod.spec.volumes:
        if volume.config_map is not None and kind == CONFIG_MAP and volume.config_map.name == name:
            return True
        if volume.secret is not None and kind == SECRET and volume.secret.secret_name == name:
            return True
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.config_map is not None and kind == CONFIG_MAP and source.config_map.name == name:
                return True
            if source.secret is not None and kind == SECRET and source.secret.name == name:
                return True
    return False


# --- from files -------------------------------------------------------------------------------


def read_config_map(namespace: str, name: str, path: str) -> ConfigMap:
    """A ConfigMap of the files in a directory, or of one file, each under its own name. Blocking.

    Text goes to `data`, the rest to `binaryData`. Raises KubeletError with a sentence.
    """
    from podlite.api.config import ConfigMap
    from podlite.api.meta import ObjectMeta

    result = ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace))
    for key, data in _read_files(path).items():
        try:
            result.data[key] = data.decode()
        except UnicodeDecodeError:
            result.binary_data[key] = data
    return result


def read_secret(namespace: str, name: str, path: str) -> Secret:
    """A Secret of the files in a directory, or of one file, each under its own name. Blocking.

    Raises KubeletError with a sentence.
    """
    from podlite.api.config import Secret
    from podlite.api.meta import ObjectMeta

    meta = ObjectMeta(name=name, namespace=namespace)
    return Secret(metadata=meta, data=_read_files(path), type="Opaque")


def _read_files(path: str) -> dict[str, bytes]:
    """As kubectl reads them: a directory's regular files, links to such included, but nothing below it."""
    from podlite.linux.fs import read_file

    if os.path.isdir(path):
        paths = [f"{path}/{name}" for name in sorted(os.listdir(path)) if os.path.isfile(f"{path}/{name}")]
    else:
        paths = [path]
    result: dict[str, bytes] = {}
    left = _MAX_SIZE
    for each in paths:
        key = os.path.basename(each)
        if not _is_key(key):
            raise KubeletError(
                f"the file {each} cannot be a key of a ConfigMap or Secret: those are letters, digits, - _ and ."
            )
        try:
            result[key] = read_file(each, limit=left)
        except OSError as error:
            raise KubeletError(f"{each} cannot be read: {error.strerror}") from error
        left -= len(result[key])
    return result


def _is_key(name: str) -> bool:
    return 0 < len(name) <= 253 and _KEY_CHARACTERS.issuperset(name) and name not in (".", "..")
