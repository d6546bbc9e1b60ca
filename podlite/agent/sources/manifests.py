"""What a source of manifests says now, file by file: the last good version of each, and what is wrong with it. Pure.

A manifest that cannot be read leaves its pods as they are; only its removal ends them. Manifests may have several
documents, ConfigMaps and Secrets among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podlite.agent.sources.static_pods import static_pod
from podlite.api.manifest import load_manifests
from podlite.api.problems import REQUIRED, ManifestError, Problem
from podlite.errors import explain
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.api.base import Object
    from podlite.api.pod import Pod


class Manifest(msgspec.Struct, frozen=True):
    """One readable manifest: the pods and objects that it asks for."""

    pods: tuple[Pod, ...] = ()
    objects: tuple[Object, ...] = ()


class ManifestSource:
    """The manifests of one source, by origin. `source` and `node_name` are as for `static_pod`."""

    def __init__(self, source: str, node_name: str) -> None:
        self.source = source
        self._node_name = node_name
        self._texts: dict[str, bytes] = {}
        self._good: dict[str, Manifest] = {}
        self.problems: dict[str, str] = {}

    def read(self, origin: str, text: bytes, seen: str) -> str | None:
        """Takes in a manifest's text. Returns what is wrong with it if that is news, "" for a change, None for none."""
        if self._texts.get(origin) == text:
            return None
        self._texts[origin] = text
        try:
            self._good[origin] = self._parse(origin, text, seen)
        except ManifestError as error:
            self.problems[origin] = str(error)
            return str(error)
        except (OSError, MemoryError) as error:
            # Of the machine's making, not the manifest's: the next look may have more luck.
            del self._texts[origin]
            return explain(error)
        self.problems.pop(origin, None)
        return ""

    def _parse(self, origin: str, text: bytes, seen: str) -> Manifest:
        with step("manifest.load"):
            found = load_manifests([(origin, text)], validate="strict")
        if not all(each.metadata.name for each in found.pods):
            # A generated name would be another one each time (tryDecodeSinglePod in pkg/kubelet/config/common.go).
            message = "Required value: name is needed for the pod"
            raise ManifestError([Problem("metadata.name", message, REQUIRED, origin)])
        pods = [
            static_pod(each, source=self.source, origin=origin, node_name=self._node_name, seen=seen)
            for each in found.pods
        ]
        return Manifest(tuple(pods), (*found.config_maps, *found.secrets))

    def keep_only(self, origins: Iterable[str]) -> bool:
        """Forgets the manifests that are not there any more; whether there were any."""
        gone = (self._texts.keys() | self._good.keys()) - set(origins)
        for each in gone:
            self._texts.pop(each, None)
            self._good.pop(each, None)
            self.problems.pop(each, None)
        return bool(gone)

    def pods(self) -> dict[str, tuple[str, Pod]]:
        """UID → (origin, pod)."""
        return {pod.metadata.uid: (origin, pod) for origin, each in self._good.items() for pod in each.pods}

    def objects(self) -> list[Object]:
        """ConfigMaps and Secrets."""
        return [each for manifest in self._good.values() for each in manifest.objects]
