"""StartContainer: the mounts are opened here, on the privileged side, and everything goes to the pod's shim."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import anyio

from podlite import blocking, log
from podlite.cri.errors import CRIError, FailedPreconditionError, InvalidArgumentError, StartError
from podlite.errors import explain
from podlite.linux import mounts
from podlite.linux.syscalls import MOUNT_ATTR_NODEV
from podlite.runtime.container import mounts as mount_plan
from podlite.runtime.container.ahead import discard, kernel_view, place
from podlite.runtime.container.confinement import container_capabilities, seccomp_program
from podlite.runtime.container.devices import device_nodes
from podlite.runtime.container.process import as_messages, command_line, environment, security_context
from podlite.runtime.container.streams import ContainerStreams
from podlite.runtime.sandbox.user_namespace import open_user_namespace
from podlite.runtime.shim_client import KILL_SECONDS
from podlite.runtime.shim_reports import container_exited
from podlite.runtime.store import CREATED, EXITED, RUNNING, STARTING, Container
from podlite.steps import step

if TYPE_CHECKING:
    from podlite.linux.capabilities import Capabilities
    from podlite.runtime.service import Runtime

Message = dict[str, Any]

# The exit code of a container whose program never ran, as containerd has it.
START_ERROR_CODE = 128


async def start_container(runtime: Runtime, container_id: str) -> None:
    """See RuntimeService.start_container."""
    await _start(runtime, container_id, {})


async def start_with_streams(runtime: Runtime, container_id: str) -> ContainerStreams:
    """Starts a created container with its standard streams connected to the caller instead of to a log.

    Not a call of CRI, where a container's output goes to its log: for podlite as a library. Raises as
    `start_container`; a terminal (`tty`) is not possible.
    """
    config = runtime.store.container(container_id).config
    if config.tty:
        raise InvalidArgumentError("a container that is started with streams cannot have a terminal")
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    try:
        for name in ("stdin", "stdout", "stderr"):
            if name != "stdin" or config.stdin:
                read, write = os.pipe2(os.O_CLOEXEC)
                theirs[name], ours[name] = (read, write) if name == "stdin" else (write, read)
        await _start(runtime, container_id, theirs)
    except BaseException:
        _close(list(ours.values()))
        raise
    finally:
        _close(list(theirs.values()))
    return ContainerStreams(runtime, container_id, ours)


async def _start(runtime: Runtime, container_id: str, stdio: dict[str, int]) -> None:
    container = runtime.store.container(container_id)
    sandbox = runtime.store.ready_sandbox(container.sandbox.id)
    if container.state != CREATED or container.removing:
        raise FailedPreconditionError(
            f"container {container.config.metadata.name} of pod {sandbox.pod} is {container.state}, not created"
        )
    container.transition(STARTING)
    container.start_ns = time.monotonic_ns()
    try:
        with step("container.start", **container.ids):
            await open_user_namespace(sandbox)
            assert sandbox.shim is not None
            answer = await sandbox.shim.start(container.id, lambda: _prepare(runtime, container, stdio))
    except Exception as error:
        await discard(container)
        failure = error
        if isinstance(error, OSError):
            name = container.config.metadata.name
            failure = StartError(f"the start of container {name} did not work: {explain(error)}")
        await blocking.run(
            _record, runtime, container, {"failed": container.id, "message": str(failure), "at": time.time_ns()}
        )
        _failed(runtime, container, failure)
        raise failure from (error if failure is not error else None)
    except BaseException:
        # Cancelled: it may have started. What started is ended, and the container is then like any other.
        await _kill_cancelled(runtime, container)
        raise
    container.ahead = False
    container.pid = answer["pid"]
    container.started_at = answer["started_at"]
    container.exec_ns = answer["exec_ns"]
    if container.state == STARTING:
        container.transition(RUNNING)
        runtime.events.started(container)
    if container.early_exit is not None:
        container_exited(runtime, container, container.early_exit)


def _failed(runtime: Runtime, container: Container, error: Exception) -> None:
    if container.state != STARTING:
        return  # its shim died under it, which has been dealt with
    container.exit_code = START_ERROR_CODE
    container.reason = "StartError"
    container.message = str(error)
    container.finished_at = time.time_ns()
    container.transition(EXITED)
    runtime.events.stopped(container)


async def _kill_cancelled(runtime: Runtime, container: Container) -> None:
    """The start of a container was cancelled while its shim was at it: the caller does not want it any more.

    Unless this runtime is leaving its pods to the next one, which finds the container as it is then.
    """
    if runtime.leaving:
        return
    with anyio.CancelScope(shield=True), anyio.move_on_after(KILL_SECONDS):
        await discard(container)
        shim = container.sandbox.shim
        if shim is not None and not shim.gone and container.state == STARTING:
            try:
                await shim.signal(9, container=container.id)
            except CRIError:
                pass
    _failed(runtime, container, CRIError("the start was cancelled"))


def _record(runtime: Runtime, container: Container, entry: Message) -> None:
    """Writes down how far the container has come, for whoever adopts it. Blocking."""
    try:
        with runtime.journal(container.sandbox) as journal:
            journal.append(entry)
    except OSError as error:
        log.warning("a container's record cannot be written", why=str(error.strerror), **container.ids)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _prepare(runtime: Runtime, container: Container, stdio: dict[str, int]) -> tuple[Message, list[int]]:
    """The message for the shim and its descriptors. Blocking. Raises CRIError, StartError, OSError."""
    try:
        with step("container.mounts", **container.ids):
            _record(runtime, container, {"starting": container.id})
            return _build(runtime, container, stdio)
    except OSError as error:
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        raise StartError(
            f"the start of container {container.config.metadata.name} cannot be prepared: {text}"
        ) from error


def _build(runtime: Runtime, container: Container, stdio: dict[str, int]) -> tuple[Message, list[int]]:
    prepared = container.prepared
    assert prepared is not None
    context = security_context(container.config)
    config = container.config
    assert container.image is not None
    working_dir = config.working_dir or container.image.working_dir or "/"
    view = mount_plan.View(
        **kernel_view(runtime, container),
        image_binds=prepared.rootfs.binds,
        files=runtime.sandbox_files(container.sandbox),
        working_dir=working_dir,
        devices=_devices(container, context.privileged),
        masked_paths=context.masked_paths,
        readonly_paths=context.readonly_paths,
    )
    plan = mount_plan.plan(view, config.mounts, prepared.image_volumes)
    fds: list[int] = []
    try:
        fds.append(_root_mount(container, devices=prepared.devices_limited))
        users = container.sandbox.userns_fd
        fds.extend(mount_plan.open_sources(plan.sources, devices=prepared.devices_limited, user_namespace=users))
        for operation in plan.operations:
            if "fd" in operation:
                operation["fd"] += 1
        program = _seccomp(runtime, container)
        if program >= 0:
            fds.append(program)
        caps = _capabilities(container)
        variables = environment(config, container.image, container.sandbox.config.hostname, container.home)
        text, raw = as_messages(variables)
        process = {
            "argv": command_line(config, container.image),
            "env": text,
            "env_bytes": raw,
            "cwd": working_dir,
            "uid": container.user.uid,
            "gid": container.user.gid,
            "groups": container.user.supplemental_groups,
            "caps": caps.as_dict(),
            "no_new_privs": context.no_new_privs,
            "parent_death": True,
            "console": config.tty,
        }
        seccomp = len(fds) - 1 if program >= 0 else -1
        log = -1
        if container.log_path:
            log = len(fds)
            fds.append(open_log(container.log_path))
        streams = {}
        for name, fd in stdio.items():
            streams[name] = len(fds)
            fds.append(os.dup(fd))
        message: Message = {
            "m": "start",
            **place(container),
            "process": process,
            "root": 0,
            "mounts": plan.operations,
            "read_only": context.readonly_rootfs,
            "scratch": runtime.scratch_path,
            "kill_file": runtime.kill_file(container),
            "freezer": runtime.freezer(container),
            "oom_file": runtime.oom_file(container),
            "seccomp": seccomp,
            "stdin": config.stdin,
            "stdin_once": config.stdin_once,
            "tty": config.tty,
            "log": log,
            "stdio": streams,
        }
    except BaseException:
        _close(fds)
        raise
    return message, fds


def open_log(path: str) -> int:
    """A container's log file, for its shim to write to. Blocking. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def _root_mount(container: Container, *, devices: bool) -> int:
    """The container's root: its writable layer over the image's layers, as a detached mount."""
    prepared = container.prepared
    assert prepared is not None
    attributes = 0 if devices else MOUNT_ATTR_NODEV
    writable = prepared.writable
    lower, layers = prepared.rootfs.lower, []
    try:
        if container.sandbox.userns_fd >= 0:
            # The image's files belong to the pod's users; what is written belongs to them already.
            for layer in lower:
                layers.append(mounts.clone(layer))
                mounts.map_ids(layers[-1], container.sandbox.userns_fd)
            lower = [f"/proc/thread-self/fd/{fd}" for fd in layers]
        # Volatile: the layer goes with the container.
        return mounts.new_overlay(
            lower,
            upper=f"{writable}/upper",
            work=f"{writable}/work",
            volatile=True,
            attributes=attributes,
        )
    except OSError as error:
        raise CRIError(
            f"the root file system of container {container.config.metadata.name} cannot be mounted: {error.strerror}"
        ) from error
    finally:
        _close(layers)


def _seccomp(runtime: Runtime, container: Container) -> int:
    """A memfd with the seccomp program, or -1 for none."""
    program = seccomp_program(runtime, container)
    if not program:
        return -1
    fd = os.memfd_create("podlite-seccomp", os.MFD_CLOEXEC)
    os.write(fd, program)
    return fd


def _capabilities(container: Container) -> Capabilities:
    limited, missing = container_capabilities(container)
    if missing:
        log.warning(
            f"container {container.config.metadata.name} cannot have the capabilities {', '.join(missing)}: "
            "podlite does not have them itself",
            **container.ids,
        )
    return limited


def _devices(container: Container, privileged: bool) -> list[Message]:
    if privileged:
        return host_devices()
    return [_device(each.host_path, each.container_path) for each in device_nodes(container.config.devices)]


def _device(host_path: str, container_path: str) -> Message:
    status = os.stat(host_path)
    return {
        "path": container_path or host_path,
        "host": host_path,
        "type": "b" if status.st_mode & 0o170000 == 0o060000 else "c",
        "mode": status.st_mode & 0o7777,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


# What every container has of its own, or what is a terminal of somebody else's.
_NOT_SHARED = frozenset(("pts", "shm", "mqueue", "fd", "console", "ptmx", "lxc", "lxd-sock"))
_STANDARD = frozenset(("null", "zero", "full", "random", "urandom", "tty"))


def host_devices(directory: str = "/dev") -> list[Message]:
    """Every device node of the host, for a privileged container. Blocking."""
    result: list[Message] = []
    for entry in os.scandir(directory):
        if directory == "/dev" and (entry.name in _NOT_SHARED or entry.name in _STANDARD):
            continue
        if entry.is_dir(follow_symlinks=False):
            result.extend(host_devices(entry.path))
        elif not entry.is_symlink() and entry.stat(follow_symlinks=False).st_mode & 0o170000 in (0o060000, 0o020000):
            result.append(_device(entry.path, entry.path))
    return result
