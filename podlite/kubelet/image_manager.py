"""Makes sure that a container's image is there, by its pull policy, with the kubelet's reasons, messages and events.

Pods that need the same image at the same time share one pull.
Source: pkg/kubelet/images/image_manager.go and types.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread

from podlite.cri.errors import CRIError, ImageError
from podlite.cri.types import ImageSpec
from podlite.errors import explain
from podlite.kubelet import events
from podlite.kubelet.backoff import image_key
from podlite.kubelet.gotime import NANOSECONDS, duration
from podlite.kubelet.image_name import InvalidImageName, registry, repository_of, with_default_tag
from podlite.kubelet.types import KubeletError
from podlite.steps import step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from podlite.api.pod import Pod
    from podlite.cri.services import ImageService
    from podlite.cri.types import Image, PodSandboxConfig
    from podlite.kubelet.backoff import BackOff
    from podlite.kubelet.clock import Clock
    from podlite.kubelet.pull_records import PullCredential

    # Records an event about whatever needs the image: (type, reason, message).
    Record = Callable[[str, str, str], None]
    # The credentials to try for a pod's image, in this order; none means without.
    Credentials = Callable[[Pod, str, Record], Awaitable[list[PullCredential]]]

ERR_IMAGE_PULL = "ErrImagePull"
IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
IMAGE_INSPECT_ERROR = "ImageInspectError"
INVALID_IMAGE_NAME = "InvalidImageName"

_KNOWN_FAILURES = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}

# The registry of images that exist on this machine only: asking anybody for them would be a mistake.
LOCAL_REGISTRY = "podlite.local"

USE, PULL, REFUSE = "use", "pull", "refuse"


class EnsuredImage(msgspec.Struct, frozen=True):
    """`ref` is what a container is created from; `image` is what the runtime knows of it."""

    ref: str
    image: Image | None


def pull_decision(policy: str, present: bool) -> str:
    """What a pull policy makes of an image that is present or not: USE, PULL or REFUSE."""
    if policy == "Always":
        return PULL
    if present:
        return USE
    return REFUSE if policy == "Never" else PULL


def effective_policy(policy: str, image: str) -> str:
    """The pull policy, which for an image of this machine's own is always Never."""
    return "Never" if registry(image) == LOCAL_REGISTRY else policy


def pull_failure(image: str, error: CRIError) -> tuple[str, str]:
    """(reason, message) of a container whose image could not be pulled. Pure.

    Runtimes say these two things by how their messages begin, as gRPC has no other place for it.
    Source: evalCRIPullErr, and k8s.io/cri-api/pkg/errors.
    """
    text = str(error)
    for reason, why in _KNOWN_FAILURES.items():
        if text.startswith(reason):
            return reason, f"image pull failed for {image} because {why}{text.removeprefix(reason)}"
    return (error.reason if isinstance(error, ImageError) else ERR_IMAGE_PULL), text


class _Pull:
    """A pull that is under way, and who waits for it."""

    __slots__ = ("done", "error", "ref", "scope", "waiting")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.ref = ""
        self.error: CRIError | None = None
        self.waiting = 0


class ImageManager:
    """`tasks` is where pulls run; `credentials` finds a pod's credentials for an image, and in `records_dir` it is
    written down what was pulled with which (without it every image that is here is everybody's)."""

    def __init__(
        self,
        images: ImageService,
        clock: Clock,
        back_off: BackOff,
        tasks: TaskGroup,
        credentials: Credentials | None = None,
        records_dir: str = "",
    ) -> None:
        self._images = images
        self._clock = clock
        self._back_off = back_off
        self._tasks = tasks
        self._credentials = credentials
        self._records_dir = records_dir
        self._pulls: dict[str, _Pull] = {}
        self._last_errors: dict[str, str] = {}

    async def ensure(
        self, pod: Pod, image: str, policy: str, record: Record, sandbox_config: PodSandboxConfig | None = None
    ) -> EnsuredImage:
        """The image, pulled if need be. Raises KubeletError: its reason and message are those of the status."""
        with step("image.ensure", pod=f"{pod.metadata.namespace}/{pod.metadata.name}"):
            try:
                name = with_default_tag(image)
            except InvalidImageName as error:
                message = f'Failed to apply default image tag "{image}": {error}'
                record(events.WARNING, events.INSPECT_FAILED, message)
                raise KubeletError(message, reason=INVALID_IMAGE_NAME) from None
            spec = ImageSpec(image=name, annotations=dict(pod.metadata.annotations), user_specified_image=image)
            policy = effective_policy(policy, name)
            found = None if policy == "Always" else await self._inspect(spec, record)
            decision = pull_decision(policy, found is not None)
            auths: list[PullCredential] | None = None
            if decision == USE and found is not None and await self._is_restricted(name, found):
                auths = await self._find_credentials(pod, name, record)
                if not await self._may_use(name, found, auths):
                    decision = REFUSE if policy == "Never" else PULL
            if decision == USE and found is not None:
                message = f'Container image "{image}" already present on machine and can be accessed by the pod'
                record(events.NORMAL, events.PULLED, message)
                return EnsuredImage(found.id, found)
            if decision == REFUSE:
                message = f'Container image "{image}" is not present with pull policy of Never'
                record(events.WARNING, events.ERR_IMAGE_NEVER_PULL, message)
                raise KubeletError(message, reason=ERR_IMAGE_NEVER_PULL)
            return await self._pull_with_back_off(pod, image, spec, record, sandbox_config, auths)

    def forget(self, uid: str) -> None:
        """Drops what is kept for a pod."""
        self._back_off.forget(f"{uid}_")
        for key in [each for each in self._last_errors if each.startswith(f"{uid}_")]:
            del self._last_errors[key]

    async def _find_credentials(self, pod: Pod, name: str, record: Record) -> list[PullCredential]:
        return await self._credentials(pod, name, record) if self._credentials is not None else []

    async def _is_restricted(self, name: str, image: Image) -> bool:
        """Whether an image that is here may be for some pods only."""
        if not self._records_dir or registry(name) == LOCAL_REGISTRY:
            return False
        return not await self._may_use(name, image, [])

    async def _may_use(self, name: str, image: Image, auths: list[PullCredential]) -> bool:
        """Whether a pod with these credentials may use an image that is here as it is."""
        from podlite.kubelet.pull_records import PullRecords, is_accessible

        records = PullRecords(self._records_dir)
        repository = repository_of(name)
        pulled = await to_thread.run_sync(records.look_up, name, image.id, repository)
        secrets = [each.secret for each in auths if each.secret is not None]
        if not is_accessible(pulled, secrets):
            return False
        grants = pulled.grants
        if secrets and grants is not None and not grants.node_pods_accessible:
            # Another Secret with the same credentials, or the same one with others, is good from now on.
            for secret in secrets:
                if is_accessible(pulled, [secret]):
                    await to_thread.run_sync(records.add, image.id, repository, secret)
        return True

    async def _inspect(self, spec: ImageSpec, record: Record) -> Image | None:
        try:
            return await self._images.image_status(spec)
        except CRIError as error:
            message = f'Failed to inspect image "{spec.image}": {error}'
            record(events.WARNING, events.INSPECT_FAILED, message)
            raise KubeletError(message, reason=IMAGE_INSPECT_ERROR) from error

    async def _pull_with_back_off(
        self,
        pod: Pod,
        image: str,
        spec: ImageSpec,
        record: Record,
        sandbox_config: PodSandboxConfig | None,
        auths: list[PullCredential] | None,
    ) -> EnsuredImage:
        key = image_key(pod, image)
        if self._back_off.until_since_update(key) is not None:
            message = f'Back-off pulling image "{image}"'
            record(events.NORMAL, events.BACK_OFF, message)
            last = self._last_errors.get(key)
            raise KubeletError(f"{message}: {last}" if last else message, reason=IMAGE_PULL_BACK_OFF)
        self._last_errors.pop(key, None)
        record(events.NORMAL, events.PULLING, f'Pulling image "{image}"')
        started = self._clock.now_ns()
        if auths is None:
            auths = await self._find_credentials(pod, spec.image, record)
        try:
            ref = await self._shared_pull(spec, auths, sandbox_config)
        except CRIError as error:
            record(events.WARNING, events.FAILED, f'Failed to pull image "{image}": {error}')
            self._back_off.next(key, self._clock.now_ns())
            reason, message = pull_failure(image, error)
            self._last_errors[key] = f"{reason}: {message}"
            raise KubeletError(message, reason=reason) from error
        took = duration((self._clock.now_ns() - started) // 1_000_000 * 1_000_000 / NANOSECONDS)
        found = await self._status_after_pull(spec, ref)
        size = found.size if found is not None else 0
        record(
            events.NORMAL,
            events.PULLED,
            f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: {size} bytes.',
        )
        self._back_off.collect()
        return EnsuredImage(ref, found)

    async def _status_after_pull(self, spec: ImageSpec, ref: str) -> Image | None:
        try:
            return await self._images.image_status(spec) or await self._images.image_status(ImageSpec(image=ref))
        except CRIError:
            # Its size is only for the event; a missing user counts as root, as it does for the kubelet.
            return None

    async def _shared_pull(
        self, spec: ImageSpec, auths: list[PullCredential], sandbox_config: PodSandboxConfig | None
    ) -> str:
        """Joins the pull of the same image with the same credentials, or begins one.

        The last one who waits for it takes the pull down when it is cancelled. Raises CRIError.
        """
        key = f"{spec.image} {spec.runtime_handler} {auths}"
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull()
            self._tasks.start_soon(self._pull, key, pull, spec, auths, sandbox_config)
        pull.waiting += 1
        try:
            await pull.done.wait()
        finally:
            pull.waiting -= 1
            if not pull.waiting and not pull.done.is_set():
                self._forget_pull(key, pull)
                pull.scope.cancel()
        if pull.error is not None:
            raise pull.error
        return pull.ref

    async def _pull(
        self,
        key: str,
        pull: _Pull,
        spec: ImageSpec,
        auths: list[PullCredential],
        sandbox_config: PodSandboxConfig | None,
    ) -> None:
        from podlite.kubelet.pull_records import PullRecords

        records = PullRecords(self._records_dir) if self._records_dir else None
        try:
            with pull.scope:
                if records is not None:
                    await to_thread.run_sync(records.begin, spec.image)
                pull.ref, used = await self._pull_with_any(spec, auths, sandbox_config)
                if records is not None:
                    secret = used.secret if used is not None else None
                    await to_thread.run_sync(records.add, pull.ref, repository_of(spec.image), secret)
        except CRIError as error:
            pull.error = error
        except OSError as error:
            pull.error = CRIError(f"failed to record image pull intent: {explain(error)}")
        finally:
            if records is not None:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(records.finish, spec.image)
            self._forget_pull(key, pull)
            pull.done.set()

    async def _pull_with_any(
        self, spec: ImageSpec, auths: list[PullCredential], sandbox_config: PodSandboxConfig | None
    ) -> tuple[str, PullCredential | None]:
        """(reference, the first credentials that worked). Raises CRIError; several are put as the kubelet does."""
        failures: list[CRIError] = []
        for each in auths or (None,):
            try:
                auth = each.auth if each is not None else None
                return await self._images.pull_image(spec, auth, sandbox_config), each
            except CRIError as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        # k8s.io/apimachinery/pkg/util/errors, Aggregate: each text once.
        texts = list(dict.fromkeys(str(failure) for failure in failures))
        raise CRIError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")

    def _forget_pull(self, key: str, pull: _Pull) -> None:
        """Who comes from now on, even while a cancelled pull is still taken back, begins another one."""
        if self._pulls.get(key) is pull:
            del self._pulls[key]
