"""Which pods there should be: those of the manifests, and those that were handed over through the API.

One pass compares what is wanted with what the kubelet has, and starts or ends pods; the kubelet does the rest. A pass
runs after every change of a manifest, and after every pod that is gone: another one may have waited for its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread
from msgspec import structs

from podlite import log
from podlite.agent.comeback import after_reboot, has_started
from podlite.agent.sources.static_pods import is_static, source_of
from podlite.errors import PodliteError, explain
from podlite.kubelet import events
from podlite.kubelet.kubelet import PodExists, PodNotFound
from podlite.kubelet.labels import pod_name
from podlite.kubelet.phase import TERMINAL
from podlite.kubelet.status_manager import DELETED
from podlite.runtime.journal import boot_id

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from podlite.agent.durable import DurableStore
    from podlite.agent.node import Node
    from podlite.agent.sources.directory import DirectorySource
    from podlite.agent.sources.url import UrlSource
    from podlite.api.base import Object
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.pod import Pod
    from podlite.kubelet.status_manager import PodChange
    from podlite.kubelet.watch import Subscription

    Source = DirectorySource | UrlSource

_WRITERS = 4
_TRY_AGAIN_SECONDS = 1.0
# The reason of an event about a manifest that cannot be used.
INVALID_MANIFEST = "InvalidManifest"
NAME_TAKEN = "PodNameTaken"
# An annotation of pods in the durable store: the boot in which the agent last knew them.
_BOOT = "podlite.io/boot"


class PodController:
    """Keeps the kubelet's pods as they are wanted. For the event loop's thread."""

    def __init__(self, node: Node, durable: DurableStore) -> None:
        self._node = node
        self._kubelet = node.kubelet
        self._durable = durable
        self._sources: Sequence[Source] = ()
        self._read: set[str] = set()
        self._lock = anyio.Lock()
        # By UID: of two writes of one pod the later one has to be the last.
        self._writing: dict[str, anyio.Lock] = {}
        self._writers = anyio.CapacityLimiter(_WRITERS)
        self._static_objects: dict[tuple[str, str, str], Object] = {}
        self._told: set[tuple[str, str]] = set()
        self._written: dict[str, tuple[str, bool]] = {}

    def follow(self, sources: Sequence[Source]) -> None:
        """The sources from now on; what they say is taken in by `reconcile`."""
        self._sources = sources

    # --- what was handed over ---------------------------------------------------------------

    async def restore(self, only: Collection[str] | None = None) -> None:
        """Takes on again what was handed to an earlier agent: what it left running has been adopted already.

        With `only`, the pods with these UIDs and no others.
        """
        if only is None:
            await self._tidy()
        for value in await to_thread.run_sync(self._durable.objects):
            self._kubelet.objects.update([value])
        for stored in await to_thread.run_sync(self._durable.pods):
            uid = stored.metadata.uid
            if uid in self._node.waiting or (only is not None and uid not in only):
                continue
            try:
                if self._has(uid):
                    await self._resume(stored)
                else:
                    await self._comes_back(stored)
            except (PodliteError, OSError) as error:
                log.error("a pod cannot be taken on again", pod=pod_name(stored), uid=uid, why=explain(error))

    async def _tidy(self) -> None:
        try:
            await to_thread.run_sync(self._durable.tidy)
        except OSError as error:
            log.warning("what a killed agent left half written stays", why=explain(error))

    async def _resume(self, stored: Pod) -> None:
        """Of an adopted pod the store may know more: that its deletion was asked for."""
        meta = stored.metadata
        if meta.deletion_timestamp is not None:
            await self._kubelet.delete_pod(meta.uid, meta.deletion_grace_period_seconds)

    async def _comes_back(self, stored: Pod) -> None:
        rebooted = stored.metadata.annotations.get(_BOOT, "") != boot_id()
        pod = after_reboot(_unmarked(stored)) if rebooted else _begun(_unmarked(stored))
        if pod is None:
            await to_thread.run_sync(self._durable.remove_pod, stored.metadata.uid)
        elif pod.status.phase in TERMINAL:
            await self._kubelet.adopt_pod(pod)
        else:
            await self._kubelet.add_pod(pod)

    async def create(self, pod: Pod) -> Pod:
        """Takes on a pod that was admitted. It is written down before this returns. Raises PodExists, OSError."""
        meta = pod.metadata
        if self._kubelet.find(meta.namespace, meta.name) is not None:
            raise PodExists(f'pods "{meta.name}" already exists')
        async with self._lock_of(meta.uid):
            await self._in_turn(self._durable.put_pod, _marked(pod))
            self._written[meta.uid] = (pod.status.phase, False)
            try:
                return await self._kubelet.add_pod(pod)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._in_turn(self._durable.remove_pod, meta.uid)
                raise

    async def delete(self, uid: str, grace: int | None) -> Pod:
        """Asks for the end of a pod; that is written down before this returns. Raises PodNotFound, OSError.

        PodNotFound also of one that is gone at once: it does not come back either.
        """
        pod = self._kubelet.pod(uid)
        await self._kubelet.delete_pod(uid, grace)
        if not is_static(pod):
            await self._store(uid)
        return self._kubelet.pod(uid)

    async def put_object(self, value: ConfigMap | Secret) -> None:
        """Raises KubeletError for a change of an immutable one, OSError."""
        self._kubelet.objects.update([value])
        await to_thread.run_sync(self._durable.put_object, value)

    async def remove_object(self, value: ConfigMap | Secret) -> None:
        """Raises OSError."""
        await to_thread.run_sync(self._durable.remove_object, value)
        self._kubelet.objects.remove(value.kind, value.metadata.namespace, value.metadata.name)

    # --- manifests --------------------------------------------------------------------------

    def problem(self, origin: str, text: str) -> None:
        """A manifest cannot be used: its pods go on as they are, and the event says so, theirs and the machine's."""
        log.warning("a manifest cannot be used", origin=origin, why=text)
        recorder = self._kubelet.recorder
        recorder.node_event(events.WARNING, INVALID_MANIFEST, f"{origin}: {text}")
        for source in self._sources:
            for of, pod in source.manifests.pods().values():
                if of == origin and self._has(pod.metadata.uid):
                    known = self._kubelet.pod(pod.metadata.uid)
                    message = f"The manifest has changed and cannot be used; the pod goes on as it was: {text}"
                    recorder.pod_event(known, events.WARNING, INVALID_MANIFEST, message)

    async def reconcile(self) -> None:
        """Ends static pods that are wanted no more, and starts those that are not there. Never raises PodliteError."""
        async with self._lock:
            wanted = {uid: found for source in self._sources for uid, found in source.manifests.pods().items()}
            self._take_objects([each for source in self._sources for each in source.manifests.objects()])
            for pod in self._kubelet.pods():
                uid = pod.metadata.uid
                if is_static(pod) and uid not in wanted and pod.metadata.deletion_timestamp is None:
                    await self._end(pod)
            for uid, (origin, pod) in wanted.items():
                if not self._has(uid) and uid not in self._node.waiting:
                    await self._begin(origin, pod)

    async def _end(self, pod: Pod) -> None:
        log.info("a manifest is gone", pod=pod_name(pod), source=source_of(pod))
        try:
            await self._kubelet.delete_pod(pod.metadata.uid)
        except PodNotFound:
            pass

    async def _begin(self, origin: str, pod: Pod) -> None:
        meta = pod.metadata
        other = self._kubelet.find(meta.namespace, meta.name)
        if other is not None:
            # An older version of it is on its way out most of the time; otherwise somebody has the name.
            if other.metadata.deletion_timestamp is None and (origin, meta.uid) not in self._told:
                self._told.add((origin, meta.uid))
                text = f"{origin} has a pod of the same name, which waits until this one is gone"
                self._kubelet.recorder.pod_event(other, events.WARNING, NAME_TAKEN, text)
            return
        self._told.discard((origin, meta.uid))
        try:
            await self._kubelet.add_pod(pod)
        except Exception as error:
            # Whatever is wrong with one pod, the others shall not suffer.
            log.error("a pod cannot be added", pod=pod_name(pod), origin=origin, why=explain(error))

    def _take_objects(self, objects: list[Object]) -> None:
        from podlite.kubelet.types import KubeletError

        now = {_key(each): each for each in objects}
        for key, value in now.items():
            try:
                self._kubelet.objects.update([value])
            except KubeletError as error:
                log.warning("an object of a manifest cannot be changed", name=key[2], why=str(error))
        for key in self._static_objects.keys() - now.keys():
            self._kubelet.objects.remove(*key)
        self._static_objects = now

    async def adopt_waiting(self) -> None:
        """Goes on trying to adopt pods whose shims did not answer. Ends when there are none."""
        while self._node.waiting:
            await anyio.sleep(_TRY_AGAIN_SECONDS)
            try:
                adopted = await self._node.adopt_waiting()
                if adopted:
                    await self.restore(adopted)
                    await self.reconcile()
            except PodliteError as error:
                log.error("pods cannot be adopted", why=str(error))

    # --- what becomes of them ---------------------------------------------------------------

    async def follow_changes(self, changes: Subscription[PodChange]) -> None:
        """Writes down what counts of handed-over pods, and makes room for pods that wait for a name. For ever.

        `changes` are those since before `restore`: an adopted pod may end at any moment from then on, and its manifest
        may ask for it anew.
        """
        async for change in changes:
            pod = change.pod
            if not is_static(pod):
                await self._write_down(pod, gone=change.type == DELETED)
            if change.type == DELETED:
                await self.reconcile()

    async def _write_down(self, pod: Pod, *, gone: bool) -> None:
        """The phase, and whether anything has run: the restart policy asks for no more after a reboot."""
        uid = pod.metadata.uid
        try:
            if gone:
                async with self._lock_of(uid):
                    self._written.pop(uid, None)
                    await self._in_turn(self._durable.remove_pod, uid)
                self._writing.pop(uid, None)
            elif self._written.get(uid) != (pod.status.phase, has_started(pod)):
                await self._store(uid)
        except OSError as error:
            log.error("what became of a pod cannot be written down", pod=pod_name(pod), why=explain(error))

    async def _store(self, uid: str) -> None:
        """Writes down a pod as it is now, or that it is gone. Raises OSError."""
        async with self._lock_of(uid):
            if not self._has(uid):
                # Now, not only when `follow_changes` comes to it: whoever waits for this is told then.
                await self._in_turn(self._durable.remove_pod, uid)
                return
            pod = self._kubelet.pod(uid)
            self._written[uid] = (pod.status.phase, has_started(pod))
            await self._in_turn(self._durable.put_pod, _marked(pod))

    async def _in_turn(self, write: Callable[[T], None], value: T) -> None:
        """On threads of their own: who waits for the disk shall not wait for pods that are being started, too."""
        await to_thread.run_sync(write, value, limiter=self._writers)

    def _lock_of(self, uid: str) -> anyio.Lock:
        return self._writing.setdefault(uid, anyio.Lock())

    def _has(self, uid: str) -> bool:
        try:
            self._kubelet.pod(uid)
        except PodNotFound:
            return False
        return True


def _key(value: Object) -> tuple[str, str, str]:
    kind: str = value.kind  # type: ignore[attr-defined]
    meta = value.metadata  # type: ignore[attr-defined]
    return kind, meta.namespace or "default", meta.name


def _marked(pod: Pod) -> Pod:
    annotations = {**pod.metadata.annotations, _BOOT: boot_id()}
    return structs.replace(pod, metadata=structs.replace(pod.metadata, annotations=annotations))


def _unmarked(pod: Pod) -> Pod:
    annotations = {key: value for key, value in pod.metadata.annotations.items() if key != _BOOT}
    return structs.replace(pod, metadata=structs.replace(pod.metadata, annotations=annotations))


def _begun(pod: Pod) -> Pod | None:
    """A pod of this boot of which the kubelet knows nothing: the agent was killed before the pod was begun, or it was
    removed by hand. Its deletion is done then."""
    return None if pod.metadata.deletion_timestamp is not None else pod
