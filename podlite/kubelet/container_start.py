"""Starting one container: back-off, image, configuration, create, start, postStart hook.

Source: pkg/kubelet/kuberuntime/kuberuntime_container.go (startContainer) and kuberuntime_manager.go (doBackOff),
Kubernetes 1.36.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import anyio
import msgspec

from podlite import blocking, log
from podlite.cri.errors import CRIError
from podlite.errors import PodliteError
from podlite.kubelet import events, labels
from podlite.kubelet.actions import FAILED_POST_START_HOOK
from podlite.kubelet.backoff import container_key, restarting_message
from podlite.kubelet.container_config import make_container_config
from podlite.kubelet.gotime import duration
from podlite.kubelet.paths import container_logs_dir
from podlite.kubelet.types import BackOffError, ContainerConfigError, KubeletError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podlite.api.container import Container
    from podlite.api.pod import Pod
    from podlite.cri.services import RuntimeService
    from podlite.cri.types import ContainerConfig, ImageSpec, PodSandboxConfig
    from podlite.kubelet.backoff import BackOff
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.events import EventRecorder
    from podlite.kubelet.image_manager import EnsuredImage, ImageManager
    from podlite.kubelet.pod_kill import PodKiller
    from podlite.kubelet.pod_status import RuntimePodStatus
    from podlite.kubelet.types import HookRunner, KubeletConfig, ObjectStore

CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
CREATE_CONTAINER_ERROR = "CreateContainerError"
RUN_CONTAINER_ERROR = "RunContainerError"
POST_START_HOOK_ERROR = "PostStartHookError"


class SandboxContext(msgspec.Struct, kw_only=True):
    """What the containers of one sandbox are started with. `image_volumes` has a failure where an image is missing."""

    sandbox_id: str
    config: PodSandboxConfig
    pod_ips: tuple[str, ...] = ()
    volumes: Mapping[str, str] = {}
    image_volumes: Mapping[str, ImageSpec | KubeletError] = {}


class ContainerStarter:
    """Starts containers through the runtime."""

    def __init__(
        self,
        *,
        runtime: RuntimeService,
        images: ImageManager,
        recorder: EventRecorder,
        killer: PodKiller,
        hooks: HookRunner,
        back_off: BackOff,
        clock: Clock,
        config: KubeletConfig,
        objects: ObjectStore,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._recorder = recorder
        self._killer = killer
        self._hooks = hooks
        self._back_off = back_off
        self._clock = clock
        self._config = config
        self._objects = objects
        self._turns = anyio.CapacityLimiter(config.parallel_containers)

    async def start(self, pod: Pod, container: Container, runtime: RuntimePodStatus, context: SandboxContext) -> None:
        """Starts the next instance of a container; `runtime` is what ran before.

        Raises KubeletError, whose reason and message are those of the container's `waiting` state, and as
        BackOffError says when to try again.
        """
        self._check_back_off(pod, container, runtime)
        image_volumes = self._image_volumes(pod, container, context)
        image = await self._ensure_image(pod, container, context)
        async with self._turns:
            config = await self._make_config(pod, container, runtime, context, image, image_volumes)
            container_id = await self._create_and_start(pod, container, context, config)
        if container.lifecycle is not None and container.lifecycle.post_start is not None:
            await self._post_start(pod, container, container_id)

    async def _create_and_start(
        self, pod: Pod, container: Container, context: SandboxContext, config: ContainerConfig
    ) -> str:
        try:
            container_id = await self._runtime.create_container(context.sandbox_id, config, context.config)
        except CRIError as error:
            self._fail(pod, container, str(error), CREATE_CONTAINER_ERROR, error)
        self._recorder.container_event(pod, container, events.NORMAL, events.CREATED, "Container created")
        try:
            await self._runtime.start_container(container_id)
        except CRIError as error:
            self._fail(pod, container, str(error), RUN_CONTAINER_ERROR, error, container_id)
        self._recorder.container_event(pod, container, events.NORMAL, events.STARTED, "Container started")
        return container_id

    def forget(self, uid: str) -> None:
        """Drops what is kept for a pod."""
        self._back_off.forget(f"{uid}/")

    def collect(self) -> None:
        """Drops back-offs that would start over anyway."""
        self._back_off.collect()

    def _check_back_off(self, pod: Pod, container: Container, runtime: RuntimePodStatus) -> None:
        ended = next((each for each in runtime.containers if each.name == container.name and each.exited), None)
        if ended is None:
            return
        key = container_key(pod, container)
        until = self._back_off.until_since_event(key, ended.finished_at)
        if until is None:
            self._back_off.next(key, ended.finished_at)
            return
        text = f"Back-off restarting failed container {container.name} in pod {labels.format_pod(pod)}"
        self._recorder.container_event(pod, container, events.WARNING, events.BACK_OFF, text)
        message = restarting_message(pod, container, duration(self._back_off.delay(key)))
        raise BackOffError(message, reason=CRASH_LOOP_BACK_OFF, until=until)

    def _image_volumes(self, pod: Pod, container: Container, context: SandboxContext) -> dict[str, ImageSpec]:
        result: dict[str, ImageSpec] = {}
        failed: KubeletError | None = None
        for mount in container.volume_mounts:
            found = context.image_volumes.get(mount.name)
            if isinstance(found, KubeletError):
                self._failed_event(pod, container, f"Error: {found.reason}")
                failed = found
            elif found is not None:
                result[mount.name] = found
        if failed is not None:
            raise KubeletError(failed.message, reason=failed.reason, hint=failed.hint)
        return result

    async def _ensure_image(self, pod: Pod, container: Container, context: SandboxContext) -> EnsuredImage:
        def record(type: str, reason: str, message: str) -> None:
            self._recorder.container_event(pod, container, type, reason, message)

        try:
            return await self._images.ensure(pod, container.image, container.image_pull_policy, record, context.config)
        except KubeletError as error:
            self._failed_event(pod, container, f"Error: {error.reason}")
            raise

    async def _make_config(
        self,
        pod: Pod,
        container: Container,
        runtime: RuntimePodStatus,
        context: SandboxContext,
        image: EnsuredImage,
        image_volumes: dict[str, ImageSpec],
    ) -> ContainerConfig:
        before = runtime.container(container.name)

        def make() -> ContainerConfig:
            logs = container_logs_dir(self._config, pod, container.name)
            return make_container_config(
                pod,
                container,
                self._config,
                restart_count=before.restart_count + 1 if before is not None else restart_count_from_logs(logs),
                image_ref=image.ref,
                image=image.image,
                pod_ips=context.pod_ips,
                objects=self._objects,
                volumes=context.volumes,
                image_volumes=image_volumes,
                recursive_read_only=self._config.recursive_read_only,
                target_container_id=_target_id(container, runtime),
            )

        try:
            return await blocking.run(make)
        except KubeletError as error:
            reason = ContainerConfigError.reason if error.reason == KubeletError.reason else error.reason
            self._fail(pod, container, str(error), reason, error)
        except OSError as error:
            text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            self._fail(pod, container, text, ContainerConfigError.reason, error)

    async def _post_start(self, pod: Pod, container: Container, container_id: str) -> None:
        assert container.lifecycle is not None
        assert container.lifecycle.post_start is not None
        try:
            await self._hooks(container_id, pod, container, container.lifecycle.post_start)
            return
        except PodliteError as error:
            failure = error
        log.warning("PostStart hook failed", pod=labels.pod_name(pod), container=container.name, why=str(failure))
        # The message is kept out of the event: it may have secrets in it.
        self._recorder.container_event(
            pod, container, events.WARNING, events.FAILED_POST_START_HOOK, "PostStartHook failed", container_id
        )
        try:
            await self._killer.kill_container(
                pod, container.name, container_id, message="FailedPostStartHook", reason=FAILED_POST_START_HOOK
            )
        except CRIError as error:
            log.warning("a container cannot be killed", container=container.name, why=str(error))
        raise KubeletError(str(failure), reason=POST_START_HOOK_ERROR) from failure

    def _fail(
        self,
        pod: Pod,
        container: Container,
        message: str,
        reason: str,
        cause: BaseException,
        container_id: str = "",
    ) -> NoReturn:
        self._failed_event(pod, container, f"Error: {message}", container_id)
        raise KubeletError(message, reason=reason) from cause

    def _failed_event(self, pod: Pod, container: Container, text: str, container_id: str = "") -> None:
        self._recorder.container_event(pod, container, events.WARNING, events.FAILED, text, container_id)


def restart_count_from_logs(directory: str) -> int:
    """One more than the newest log in a container's log directory has; 0 without any. Blocking.

    A runtime forgets its containers with a reboot, and the next instance must not write over an earlier log.
    """
    try:
        names = os.listdir(directory)
    except OSError:
        return 0
    counts = [int(number) + 1 for number, dot, rest in (each.partition(".") for each in names) if _is_log(number, rest)]
    return max(counts, default=0)


def _is_log(number: str, rest: str) -> bool:
    return number.isdecimal() and (rest == "log" or rest.startswith("log."))


def _target_id(container: Container, runtime: RuntimePodStatus) -> str:
    """The container that an ephemeral one debugs. Raises ContainerConfigError."""
    name: str = getattr(container, "target_container_name", "")
    if not name:
        return ""
    target = runtime.container(name)
    if target is None:
        raise ContainerConfigError(f"unable to find target container {name}")
    return target.id
