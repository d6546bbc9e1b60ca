"""What the API serves, gathered in one place: pods of this agent and of others, events, ConfigMaps, Secrets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from podlite.agent.api.cache import WatchCache
from podlite.agent.api.errors import ApiError, not_found
from podlite.agent.api.foreign import ForeignPods
from podlite.kubelet.status_manager import DELETED as POD_DELETED

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from podlite.agent.controller import PodController
    from podlite.agent.node import Node
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.events import Event
    from podlite.api.pod import Pod
    from podlite.kubelet.status_manager import PodChange
    from podlite.kubelet.watch import Subscription
    from podlite.kubelet.written_pods import WrittenPod

_EVENTS_KEPT = 512
_OVER = ("Succeeded", "Failed", "Unknown")


class ApiState:
    """Follows the node from `follow` on. `node` and `controller` are None where no agent runs: then only other
    podlites' pods are seen, and nothing can be created.
    """

    def __init__(self, pods_dir: str, node: Node | None = None, controller: PodController | None = None) -> None:
        # Versions of one agent are beyond those of the one before: a watch that is taken up again is told so.
        first = int(time.time() * 1000)
        if node is not None:
            first = max(first, node.kubelet.resource_version)
        self.node = node
        self.controller = controller
        self.pods: WatchCache[Pod] = WatchCache(first)
        self.events: WatchCache[Event] = WatchCache(first, _EVENTS_KEPT)
        self.config_maps: WatchCache[ConfigMap] = WatchCache(first)
        self.secrets: WatchCache[Secret] = WatchCache(first)
        self.foreign: dict[str, WrittenPod] = {}
        self._pods_dir = pods_dir
        self._foreign = ForeignPods(pods_dir, is_own=self.is_own, put=self._put_foreign, gone=self._foreign_gone)

    def is_own(self, uid: str) -> bool:
        """Whether it is this agent's pod."""
        return self.node is not None and self.node.kubelet.has_pod(uid)

    async def follow(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Reports as started once everything that is there is known."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._foreign.run)
            if self.node is not None:
                kubelet = self.node.kubelet
                self._take_objects()
                kubelet.objects.watch(self._object_changed)
                # Subscribed to before it is looked what there is: a pod that ended in between would be shown for ever.
                tasks.start_soon(self._follow_pods, kubelet.watch())
                tasks.start_soon(self._follow_events, self.node, kubelet.watch_events())
                for pod in kubelet.pods():
                    self.pods.put(pod.metadata.uid, pod)
                for event in kubelet.events():
                    self.events.put(event.metadata.name, event)
            task_status.started()

    def close(self) -> None:
        """Ends every watch."""
        for each in (self.pods, self.events, self.config_maps, self.secrets):
            each.close()

    # --- pods -------------------------------------------------------------------------------

    async def _follow_pods(self, changes: Subscription[PodChange]) -> None:
        with changes:
            async for change in changes:
                uid = change.pod.metadata.uid
                if change.type == POD_DELETED:
                    self.pods.remove(uid, change.pod)
                else:
                    self.pods.put(uid, change.pod)

    def refresh(self, uid: str) -> Pod:
        """The pod as it is this moment, for who has just changed it."""
        assert self.node is not None
        return self.pods.put(uid, self.node.kubelet.pod(uid))

    def _put_foreign(self, pod: Pod, written: WrittenPod) -> None:
        self.foreign[pod.metadata.uid] = written
        self.pods.put(pod.metadata.uid, pod)

    def _foreign_gone(self, uid: str) -> None:
        self.foreign.pop(uid, None)
        if not self.is_own(uid):
            self.pods.remove(uid)

    def find_pod(self, namespace: str, name: str) -> Pod:
        """Among several of that name, which other podlites may have, the newest that is not over. Raises ApiError."""
        found = [each for each in self.pods if (each.metadata.namespace, each.metadata.name) == (namespace, name)]
        if not found:
            raise not_found("pods", name)
        return max(found, key=lambda each: (each.status.phase not in _OVER, each.metadata.creation_timestamp or ""))

    async def until(self, uid: str, over: Callable[[Pod], bool]) -> Pod | None:
        """The pod once `over` says so of it; None when it is gone, or the API is closed."""
        while (pod := self.pods.get(uid)) is not None and not over(pod):
            try:
                # No turn of another task between the look and the watch, which begins where it was looked.
                async for change in self.pods.watch(self.pods.version):
                    if change.key == uid:
                        break
                else:
                    return None  # closed
            except ApiError:
                pass  # too many changes at once: look again
        return pod

    # --- the others -------------------------------------------------------------------------

    async def _follow_events(self, node: Node, changes: Subscription[Event]) -> None:
        with changes:
            async for change in changes:
                self.events.put(change.metadata.name, change)
                self._forget_events(node)

    def _forget_events(self, node: Node) -> None:
        """The recorder forgets those of pods that are long gone; that they are forgotten is no news to anybody."""
        known = node.kubelet.recorder
        if len(self.events) > len(known) + 256:
            names = {each.metadata.name for each in known.events()}
            self.events.forget_but(names)

    def _take_objects(self) -> None:
        assert self.node is not None
        for each in self.node.kubelet.objects:
            self._object_changed(each.kind, each.metadata.namespace, each.metadata.name)

    def _object_changed(self, kind: str, namespace: str, name: str) -> None:
        assert self.node is not None
        caches: dict[str, WatchCache[ConfigMap] | WatchCache[Secret]] = {
            "ConfigMap": self.config_maps,
            "Secret": self.secrets,
        }
        cache = caches.get(kind)
        if cache is None:
            return
        value = self.node.kubelet.objects.get(kind, namespace, name)
        key = f"{namespace or 'default'}/{name}"
        if value is None:
            cache.remove(key)
        else:
            cache.put(key, value)
