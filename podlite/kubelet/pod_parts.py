"""What a pod has around its containers: cgroup, directories, volumes, probes. Made when first needed, and imported
only then: most pods have neither volumes nor probes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podlite import blocking, log
from podlite.errors import explain
from podlite.kubelet import events, labels
from podlite.kubelet.paths import pod_logs_dir
from podlite.kubelet.pod_files import make_log_directory, remove_pod_directory
from podlite.kubelet.types import BackOffError, KubeletError, ProbeResults
from podlite.linux.trash import Trash
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from podlite.api.pod import Pod
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.events import EventRecorder
    from podlite.kubelet.pod_cgroup import PodCgroups
    from podlite.kubelet.pod_json import PodJson
    from podlite.kubelet.pod_record import PodRecord
    from podlite.kubelet.pod_status import RuntimeContainerStatus, RuntimePodStatus
    from podlite.kubelet.types import KubeletConfig, ObjectStore, Prober
    from podlite.kubelet.volumes.manager import VolumeManager

_NANO = 1_000_000_000


class PodParts:
    """`make_prober` is called once, for the first pod with probes."""

    def __init__(
        self,
        *,
        config: KubeletConfig,
        objects: ObjectStore,
        cgroups: PodCgroups,
        recorder: EventRecorder,
        clock: Clock,
        pod_json: PodJson,
        make_prober: Callable[[], Prober],
    ) -> None:
        self._trash = Trash(f"{config.state_dir}/trash", _stays)
        self._config = config
        self._objects = objects
        self._cgroups = cgroups
        self._recorder = recorder
        self._clock = clock
        self._pod_json = pod_json
        self._make_prober = make_prober
        self._prober: Prober | None = None
        self._volumes: VolumeManager | None = None
        self.results = ProbeResults()

    def close(self) -> None:
        """Returns when the files of the pods that were removed are gone. Blocking; idempotent."""
        self._trash.close()

    # --- probes -----------------------------------------------------------------------------

    def tend(self, record: PodRecord) -> None:
        """Probes the pod as its specification says. Idempotent."""
        if record.tended is record.pod:
            return
        record.tended = record.pod
        if not has_probes(record.pod):
            return
        if self._prober is None:
            self._prober = self._make_prober()
            prober = self._prober
            self.results = ProbeResults(prober.startup, prober.liveness, prober.readiness)
        self._prober.add_pod(record.pod, adopted=record.adopted)
        record.adopted = False

    def observe(self, record: PodRecord, runtime: RuntimePodStatus) -> None:
        """Tells the prober of a probed pod what runs of it."""
        if self._prober is not None and record.tended is not None:
            ips = self._config.host_ips if record.pod.spec.host_network else runtime.ips
            self._prober.observe(record.pod, runtime, ips)

    def stop_liveness_and_startup(self, record: PodRecord) -> None:
        """A pod that is being stopped must not be restarted; whether it is ready is still of interest."""
        if self._prober is not None:
            self._prober.stop_liveness_and_startup(record.uid)

    def stop_probes(self, record: PodRecord) -> None:
        if self._prober is not None:
            self._prober.remove_pod(record.uid)

    # --- cgroup, directories, volumes ---------------------------------------------------------

    async def prepare(self, record: PodRecord, also: Callable[[str], None] | None = None) -> None:
        """Makes everything that the pod's containers need outside of them. Idempotent. Raises KubeletError.

        Where the pod's cgroup is made now, `also` is called with its path, on the same worker thread.
        """
        pod = record.pod
        if record.cgroup_parent is None:
            with step("pod.cgroup", pod=labels.pod_name(pod)):
                try:
                    record.cgroup_parent = await blocking.run(self._make_cgroup_and_logs, pod, also)
                except _NotMade as failure:
                    self._recorder.pod_event(pod, events.WARNING, failure.event, failure.text)
                    raise failure.error from failure.__cause__
        if record.volumes is None:
            record.volumes = await self._set_up_volumes(pod)

    def _make_cgroup_and_logs(self, pod: Pod, also: Callable[[str], None] | None) -> str:
        """Blocking. The pod is written down first. Raises _NotMade."""
        self._pod_json.write_now(pod.metadata.uid)
        try:
            parent = self._cgroups.create(pod)
        except KubeletError as error:
            text = f"unable to ensure pod container exists: {error}"
            raise _NotMade(events.FAILED_CREATE_POD_CONTAINER, text, error) from error
        try:
            make_log_directory(pod_logs_dir(self._config, pod))
        except OSError as error:
            text = f"error making pod data directories: {error.filename}: {error.strerror}"
            raise _NotMade(events.FAILED, text, KubeletError(text, reason=events.FAILED)) from error
        if also is not None:
            also(parent)
        return parent

    async def _set_up_volumes(self, pod: Pod) -> dict[str, str]:
        if not pod.spec.volumes:
            return {}
        from podlite.kubelet.volumes.manager import VolumesNotReady

        def record(type: str, reason: str, message: str) -> None:
            self._recorder.pod_event(pod, type, reason, message)

        with step("pod.volumes", pod=labels.pod_name(pod)):
            try:
                return await self._volume_manager().set_up(pod, record)
            except VolumesNotReady as error:
                for message in error.problems.values():
                    self._recorder.pod_event(pod, events.WARNING, events.FAILED_MOUNT, message)
                until = self._clock.now_ns() + int(error.retry_after * _NANO)
                raise BackOffError(error.message, reason=error.reason, until=until) from error

    async def update_volumes(self, pod: Pod) -> None:
        """Brings volumes up to date that show ConfigMaps, Secrets or the pod itself."""
        if not pod.spec.volumes:
            return
        from podlite.kubelet.types import VolumeError

        try:
            await self._volume_manager().update(pod)
        except VolumeError as error:
            self._recorder.pod_event(pod, events.WARNING, events.FAILED_MOUNT, error.message)

    def _volume_manager(self) -> VolumeManager:
        if self._volumes is None:
            from podlite.kubelet.volumes.manager import VolumeManager

            self._volumes = VolumeManager(self._config, self._objects)
        return self._volumes

    # --- the end ------------------------------------------------------------------------------

    async def release(self, record: PodRecord, containers: tuple[str, ...]) -> None:
        """Takes down volumes, the pod's directory and its cgroup, in which those of these containers are. Idempotent.
        Raises KubeletError."""
        with step("pod.cleanup", pod=labels.pod_name(record.pod)):
            if record.pod.spec.volumes:
                await self._volume_manager().tear_down(record.uid)
            await blocking.run(self._remove_directory_and_cgroup, record.uid, record.cgroup_parent or "", containers)
        record.volumes = None
        record.cgroup_parent = None

    def _remove_directory_and_cgroup(self, uid: str, cgroup: str, containers: tuple[str, ...]) -> None:
        """Blocking."""
        remove_pod_directory(self._config, uid, self._trash.throw)
        self._cgroups.remove(uid, cgroup, containers)

    async def remove_files(self, record: PodRecord) -> None:
        """Removes the pod's logs, unless they are to be kept, and the file by which other terminals see it, last.

        Idempotent. Raises KubeletError.
        """
        keep = record.keep_logs or self._config.keep_logs
        await blocking.run(self._remove_files, record.pod, keep)

    def _remove_files(self, pod: Pod, keep_logs: bool) -> None:
        """Blocking."""
        try:
            if not keep_logs:
                self._trash.throw(pod_logs_dir(self._config, pod))
            self._pod_json.remove(pod.metadata.uid)
        except OSError as error:
            text = f"the files of the pod cannot be removed: {error.filename}: {error.strerror}"
            raise KubeletError(text, reason=events.FAILED_KILL_POD) from error

    async def remove_container_logs(self, container: RuntimeContainerStatus) -> None:
        """Removes the log of a container that is about to be removed, rotated files included."""
        if container.log_path:
            await blocking.run(remove_logs, container.log_path)


class _NotMade(Exception):
    """What a worker thread could not make: the reason and text of the pod's event, and the error of its sync."""

    def __init__(self, event: str, text: str, error: KubeletError) -> None:
        super().__init__(text)
        self.event = event
        self.text = text
        self.error = error


def _stays(path: str, error: OSError) -> None:
    """On the trash's thread."""
    log.error("files of a pod cannot be removed", path=path, why=explain(error))


def has_probes(pod: Pod) -> bool:
    """Whether any app container or sidecar is probed."""
    return any(
        each.liveness_probe is not None or each.readiness_probe is not None or each.startup_probe is not None
        for each in (*pod.spec.containers, *pod.spec.init_containers)
    )


def remove_logs(path: str) -> None:
    """Removes a log and what was rotated out of it. Blocking; what cannot be removed is logged, and left."""
    directory, name = os.path.split(path)
    try:
        for each in os.listdir(directory):
            if each == name or each.startswith(f"{name}."):
                os.unlink(f"{directory}/{each}")
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("a log cannot be removed", path=error.filename or path, why=error.strerror or "")
