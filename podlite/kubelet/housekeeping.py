"""What is done once in a while: log rotation, dead containers, images, volumes that have grown too large, a relist.

One task for all of it, asleep in between.
Source of the periods: pkg/kubelet/kubelet.go and pkg/kubelet/apis/config/v1beta1/defaults.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite import log
from podlite.cri.errors import CRIError
from podlite.errors import PodliteError
from podlite.kubelet import events, labels, local_storage
from podlite.kubelet.container_gc import collect_garbage, garbage_plan
from podlite.kubelet.container_logs import ContainerLogManager
from podlite.kubelet.image_gc import ImageGC
from podlite.kubelet.worker_states import WorkerState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from podlite.kubelet.kubelet import Kubelet
    from podlite.kubelet.pleg import Pleg
    from podlite.kubelet.pod_parts import PodParts
    from podlite.kubelet.pod_workers import PodWorkers

# eviction.monitoringInterval: how often what pods take of the disk is looked at.
_STORAGE_PERIOD = 10.0


class Housekeeping:
    """The periodic duties of a kubelet."""

    def __init__(self, kubelet: Kubelet, workers: PodWorkers, pleg: Pleg, parts: PodParts) -> None:
        config = kubelet.config
        self._kubelet = kubelet
        self._workers = workers
        self._pleg = pleg
        self._parts = parts
        self._logs = ContainerLogManager(kubelet.runtime, kubelet.clock, config)
        self.image_gc = ImageGC(kubelet.runtime, kubelet.images, kubelet.recorder, kubelet.clock, config)
        self._duties: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (config.container_log_monitor_interval, self.rotate_logs),
            (_STORAGE_PERIOD, self.check_storage),
            (config.container_gc_period, self.collect_containers),
            (config.image_gc_period, self.collect_images),
            (config.evented_relist_period, self.relist),
        ]

    async def run(self, began: float) -> None:
        """Does each duty in its period since `began`, by the monotonic clock, until it is cancelled."""
        clock = self._kubelet.clock
        due = [(began + period, index) for index, (period, _) in enumerate(self._duties)]
        while True:
            when, index = min(due)
            await clock.sleep_until(when)
            period, duty = self._duties[index]
            try:
                await duty()
            except PodliteError as error:
                log.warning("housekeeping failed", duty=duty.__name__, why=str(error))
            due[index] = (clock.monotonic() + period, index)

    async def rotate_logs(self) -> None:
        """Rotates the logs of running containers that have grown too large."""
        running = [
            (each.id, each.log_path)
            for record in self._workers
            for each in self._pleg.get(record.uid).running_containers()
            if each.log_path
        ]
        if running:
            await self._logs.rotate_logs(running)

    async def check_storage(self) -> None:
        """Evicts pods that take more of the disk than they may."""
        for record in self._workers:
            if record.state is not WorkerState.SYNC or not local_storage.is_limited(record.pod):
                continue
            message = await local_storage.exceeded_limit(
                record.pod, self._pleg.get(record.uid), self._kubelet.runtime, self._kubelet.config
            )
            if message and record.state is WorkerState.SYNC:
                log.warning("a pod is evicted", pod=labels.pod_name(record.pod), why=message)
                await self._kubelet.evict_pod(record.uid, message)

    async def collect_containers(self) -> None:
        """Removes dead containers beyond the kept ones, and dead sandboxes."""
        statuses = [self._pleg.get(record.uid) for record in self._workers if record.state is WorkerState.SYNC]
        plan = garbage_plan(statuses, self._kubelet.config, self._kubelet.clock.now_ns())
        await collect_garbage(plan, self._kubelet.runtime, self._parts)

    async def collect_images(self) -> None:
        """Removes unused images if the disk is nearly full."""
        try:
            await self.image_gc.collect()
        except CRIError as error:
            self._kubelet.recorder.node_event(events.WARNING, events.IMAGE_GC_FAILED, str(error))
            raise

    async def relist(self) -> None:
        """Looks at everything, should an event ever have been lost."""
        if self._pleg.evented:
            await self._pleg.relist()
