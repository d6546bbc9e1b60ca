"""CreateContainer: record, cgroup, writable layer, and everything that StartContainer needs to know."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from podlite import blocking, log
from podlite.cri.errors import CRIError, FailedPreconditionError, NotFoundError
from podlite.cri.types import (
    ContainerConfig,
    LinuxContainerResources,
    LinuxContainerUser,
    PodSandboxConfig,
    SupplementalGroupsPolicy,
)
from podlite.linux.cgroups import CgroupError, CgroupUnavailable, Resources
from podlite.linux.devices import ALLOW_ALL, DEFAULT_RULES, DeviceRule, rule_for
from podlite.linux.fs import make_directory
from podlite.runtime.container.ahead import discard, prepare
from podlite.runtime.container.confinement import check_seccomp
from podlite.runtime.container.devices import device_nodes
from podlite.runtime.container.process import security_context
from podlite.runtime.container.rules import check_container
from podlite.runtime.image.merged import MergedTree
from podlite.runtime.image.reference import digest_reference
from podlite.runtime.image.rootfs import RootfsDescription, describe_rootfs, resolve_user
from podlite.runtime.names import new_id
from podlite.runtime.sandbox.user_namespace import host_root
from podlite.runtime.store import Container, Sandbox
from podlite.runtime.undo import Undo
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.cri.types import ImageSpec
    from podlite.runtime.image.record import ImageRecord
    from podlite.runtime.service import Runtime


class Prepared:
    """What creating a container has made and found out, kept for its start.

    `cgroup` is its directory in the v2 tree, into which its processes are born; `cgroups` are the files of v1's
    hierarchies that they write to in order to join.
    """

    __slots__ = ("cgroup", "cgroups", "devices_limited", "image_volumes", "rootfs", "writable")

    rootfs: RootfsDescription

    def __init__(self, writable: str) -> None:
        self.writable = writable
        self.cgroup = ""
        self.cgroups: list[str] = []
        self.devices_limited = False
        self.image_volumes: dict[str, list[str]] = {}


async def create_container(
    runtime: Runtime, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
) -> str:
    """See RuntimeService.create_container."""
    sandbox = runtime.store.ready_sandbox(pod_sandbox_id)
    check_container(config)
    container = Container(new_id(), sandbox, config, time.time_ns())
    with step("container.create", **container.ids):
        async with Undo(f"creating container {config.metadata.name} of pod {sandbox.pod}") as undo:
            runtime.store.reserve_container(sandbox, config, container.id)
            undo.push("name", lambda: _release(runtime, container))
            container.cgroup = _cgroup_path(runtime, sandbox, container.id)
            container.log_path = _log_path(sandbox, config)
            undo.push("files and cgroup", lambda: _remove(runtime, container))
            await blocking.run(_prepare, runtime, container)
            _warn_of_missing_limits(container)
            if not sandbox.ready:
                # It was stopped, or removed, meanwhile, and who did that has not seen this container.
                raise FailedPreconditionError(f"sandbox {sandbox.id} of pod {sandbox.pod} is not ready any more")
            undo.commit()
        runtime.store.containers[container.id] = container
        sandbox.containers[container.id] = container
        runtime.events.created(container)
    return container.id


async def _release(runtime: Runtime, container: Container) -> None:
    runtime.store.release_container(container)


async def _remove(runtime: Runtime, container: Container) -> None:
    await discard(container)
    await blocking.run(remove_blocking, runtime, container)


def _prepare(runtime: Runtime, container: Container) -> None:
    """Everything that blocks, in one go on a worker thread: record first, then make."""
    config = container.config
    writable = f"{runtime.layout.containers_dir}/{container.id}"
    with runtime.journal(container.sandbox) as journal:
        journal.append(
            {
                "container": container.id,
                "config": config,
                "created_at": container.created_at,
                "cgroup": container.cgroup,
                "writable": writable,
                "log_path": container.log_path,
            }
        )
        prepared = container.prepared = Prepared(writable)
        # Before the rest, which goes on while the shim forks.
        with step("container.cgroup", **container.ids):
            make_cgroup(runtime, container, prepared)
        prepare(runtime, container)
        image = runtime.image_store.acquire(config.image.image, container.id)
        if image is None:
            raise NotFoundError(f"image {config.image.image} of container {config.metadata.name} is not in the store")
        container.image_id = image.id
        container.image_ref = _image_ref(runtime, config.image, image)
        container.image = image.config
        container.stop_signal = config.stop_signal or image.config.stop_signal or "SIGTERM"
        prepared.rootfs = rootfs = describe_rootfs(runtime.image_store, image)
        _resolve_user(container, rootfs)
        check_seccomp(runtime, container)
        journal.append(
            {
                "image": container.id,
                "image_id": image.id,
                "image_ref": container.image_ref,
                "user": container.user,
                "home": container.home,
            }
        )
        created: dict[str, Any] = {"created": container.id}
        if any(mount.image is not None for mount in config.mounts):
            from podlite.runtime.container import image_volumes

            prepared.image_volumes = image_volumes.acquire(runtime.image_store, container.id, config.mounts)
            created["volumes"] = image_volumes.image_refs(config.mounts)
        make_writable_layer(writable, container, rootfs.lower[0])
        if container.log_path:
            make_directory(os.path.dirname(container.log_path), 0o755)
        # From here on whoever adopts the sandbox keeps the container.
        journal.append(created)


def _image_ref(runtime: Runtime, asked_for: ImageSpec, image: ImageRecord) -> str:
    """As containerd reports an image in use: by its digest in the registry, or by its id where it came from none."""
    if image.fingerprint:
        return image.id  # made here; the hot path reads no names
    names = runtime.image_store.names_of(image)
    return digest_reference(names, asked_for.user_specified_image or asked_for.image) or image.id


def _resolve_user(container: Container, rootfs: RootfsDescription) -> None:
    context = security_context(container.config)
    with MergedTree(rootfs.lower) as files:
        user = resolve_user(
            files,
            image_user=rootfs.config.user,
            run_as_user=context.run_as_user,
            run_as_username=context.run_as_username,
            run_as_group=context.run_as_group,
            supplemental_groups=context.supplemental_groups,
            strict_groups=context.supplemental_groups_policy == SupplementalGroupsPolicy.Strict,
        )
    container.user = LinuxContainerUser(uid=user.uid, gid=user.gid, supplemental_groups=user.groups)
    container.home = user.home


def make_writable_layer(writable: str, container: Container, image_root: str) -> None:
    """Makes the layer's directories. Blocking; idempotent. Raises CRIError."""
    try:
        upper = f"{writable}/upper"
        for path, mode in ((writable, 0o700), (upper, 0o755), (f"{writable}/work", 0o700)):
            try:
                os.mkdir(path, mode)
            except FileExistsError:
                pass  # adopted
        # The root directory itself is the upper layer's: it is to look like the image's.
        root = os.stat(image_root)
        uid, gid = host_root(container.sandbox) or (0, 0)
        if root.st_uid + uid or root.st_gid + gid:
            os.chown(upper, root.st_uid + uid, root.st_gid + gid)
        if root.st_mode & 0o7777 != 0o755:
            os.chmod(upper, root.st_mode & 0o7777)
    except OSError as error:
        raise CRIError(
            f"the writable layer of container {container.config.metadata.name} cannot be made: "
            f"{error.strerror}: {error.filename}"
        ) from error


def make_cgroup(runtime: Runtime, container: Container, prepared: Prepared) -> None:
    """Makes the container's cgroups and limits them. Blocking; idempotent. Raises CRIError."""
    if runtime.cgroups is None:
        return
    linux = container.config.linux
    limits = linux.resources if linux is not None and linux.resources is not None else LinuxContainerResources()
    container.resources = limits
    try:
        created = runtime.cgroups.create(container.cgroup, as_limits(limits), device_rules(container), confine=True)
    except CgroupUnavailable as error:
        runtime.cgroups_missing(error)
        return
    except CgroupError as error:
        raise CRIError(f"the limits of container {container.config.metadata.name}: {error}") from error
    prepared.cgroup = runtime.cgroups.v2_directory(container.cgroup)
    prepared.cgroups = created.attach[:-1] if prepared.cgroup else created.attach
    prepared.devices_limited = created.devices_limited
    huge_pages = any(each.limit for each in limits.hugepage_limits)
    for warning in created.warnings:
        if "hugetlb" in warning and not huge_pages:
            # A kubelet gives every container that has none a limit of 0 for each size.
            runtime.warn_once("hugetlb", warning)
        else:
            log.warning(warning, **container.ids)


def as_limits(limits: LinuxContainerResources) -> Resources:
    return Resources(
        cpu_shares=limits.cpu_shares,
        cpu_quota=limits.cpu_quota,
        cpu_period=limits.cpu_period,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        memory_limit_in_bytes=limits.memory_limit_in_bytes,
        memory_swap_limit_in_bytes=limits.memory_swap_limit_in_bytes,
        hugepage_limits={each.page_size: each.limit for each in limits.hugepage_limits},
        unified=limits.unified,
    )


def device_rules(container: Container) -> tuple[DeviceRule, ...]:
    """The devices that the container may use: all if it is privileged, else the standard ones and its own."""
    if security_context(container.config).privileged:
        return ALLOW_ALL
    extra: list[Any] = []
    for device in device_nodes(container.config.devices):
        try:
            extra.append(rule_for(device.host_path, device.permissions or "rwm"))
        except OSError as error:
            raise CRIError(
                f"device {device.host_path} of container {container.config.metadata.name}: {error.strerror}"
            ) from error
    return (*DEFAULT_RULES, *extra)


def _cgroup_path(runtime: Runtime, sandbox: Sandbox, container_id: str) -> str:
    linux = sandbox.config.linux
    parent = linux.cgroup_parent if linux is not None else ""
    return f"{parent.rstrip('/') or runtime.layout.cgroup_root}/{container_id}"


def _log_path(sandbox: Sandbox, config: ContainerConfig) -> str:
    if not config.log_path or not sandbox.config.log_directory:
        return ""
    return os.path.normpath(f"{sandbox.config.log_directory}/{config.log_path}")


def _warn_of_missing_limits(container: Container) -> None:
    if not container.prepared or container.prepared.devices_limited:
        return
    log.info("no cgroup limits this container's devices: its file systems are mounted nodev", **container.ids)


def remove_blocking(runtime: Runtime, container: Container) -> None:
    """Removes what a container has on disk and in the cgroup hierarchies; idempotent. Blocking. Raises OSError,
    CgroupError."""
    if runtime.cgroups is not None and container.cgroup:
        if not runtime.cgroups.kill_file(container.cgroup):
            # Its shim could not: what it left in a pid namespace that is not its own (hostPID) still runs.
            runtime.cgroups.kill(container.cgroup)
        runtime.cgroups.remove(container.cgroup)
    runtime.trash.throw(f"{runtime.layout.containers_dir}/{container.id}")
    runtime.image_store.release(container.id)
    images = [mount.image.image for mount in container.config.mounts if mount.image is not None]
    if images:
        from podlite.runtime.container import image_volumes

        image_volumes.release(runtime.image_store, container.id, images)
    try:
        journal = runtime.journal(container.sandbox)
    except FileNotFoundError:
        return  # its sandbox was removed while it was created: the record has gone with it
    with journal:
        journal.append({"removed": container.id})
