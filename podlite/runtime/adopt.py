"""Taking over the sandboxes that another runtime on this machine left: after an upgrade, or a crash.

What there is of a sandbox is in its record; what became of its containers its shim tells, or, where the shim is
gone too, the file of exits that the shim wrote. A sandbox is taken if it was meant to outlive its owner, nobody
holds its lock and its record is complete; it is ready if its shim lives. Everything else is left for the reaper.

    lock free, shim serves on             ready; its containers as the shim says
    lock free, shim gone, record whole    not ready; its containers have ended
    shim of an older protocol             told to end, and then as above
    record or shim of a newer version     left as it is, for the podlite that it belongs to
    record without its confirmation       not taken: RunPodSandbox never returned it to anybody
"""

from __future__ import annotations

import os
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio import to_thread

from podlite import log
from podlite.cri.errors import CRIError
from podlite.cri.types import ContainerConfig, LinuxContainerResources, LinuxContainerUser, PodSandboxConfig
from podlite.errors import explain
from podlite.runtime import shim_reports
from podlite.runtime.container.create import Prepared, make_cgroup, make_writable_layer, remove_blocking
from podlite.runtime.container.start import START_ERROR_CODE
from podlite.runtime.image.rootfs import describe_rootfs
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.journal import RecordVersionError, load
from podlite.runtime.locks import FileLock
from podlite.runtime.sandbox.run import LOCK
from podlite.runtime.shim.names import EXITS
from podlite.runtime.shim_client import ADOPTABLE, ShimClient, as_states, connect
from podlite.runtime.store import CREATED, EXITED, RUNNING, UNKNOWN, Container, Sandbox

if TYPE_CHECKING:
    from podlite.runtime.journal import Entry
    from podlite.runtime.service import Runtime

# A shim answers at once, if it answers at all; one that was stopped is no reason to wait for the others.
ANSWER_SECONDS = 5.0
# A container between fork and execve takes milliseconds.
_STARTING_SECONDS = 5.0
_AT_ONCE = 16

LOST = "the pod's shim was killed, and its containers with it"


class Found:
    """A sandbox without an owner, locked by us: its record, and the connection to its shim if that lives."""

    def __init__(self, directory: str, lock: FileLock, entries: list[Entry], sock: socket.socket | None) -> None:
        self.directory = directory
        self.lock = lock
        self.entries = entries
        self.sock = sock

    def give_up(self) -> None:
        """Leaves it to the reaper. Idempotent."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        self.lock.release()


class Adoption:
    """What came of it: the ids of sandboxes that were taken, and the UIDs of pods that have one which is to be left
    as it is for now: its shim lives but does not answer, for it may have been stopped, or the machine is overloaded; or
    it is another version's. `adopt_sandboxes` can be tried again.
    """

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.waiting: set[str] = set()


class _NotYetError(CRIError):
    """The shim does not answer, or in a newer protocol."""


async def adopt_sandboxes(runtime: Runtime, seconds: float = ANSWER_SECONDS) -> Adoption:
    """Takes over every sandbox that can be. What cannot be taken is logged, and left alone.

    No shim is waited for longer than `seconds`.
    """
    known = set(_directories(runtime))
    adoption = Adoption()

    def wait(directory: str, error: Exception) -> None:
        adoption.waiting.add(_uid(directory))
        # It is tried again and again, and said once.
        if runtime.not_adopted.get(directory) != str(error):
            runtime.not_adopted[directory] = str(error)
            log.warning("a sandbox cannot be adopted yet", directory=directory, why=explain(error))

    found, foreign = await to_thread.run_sync(_find, runtime.layout.pods_dir, known, runtime.keeper)
    for directory, error in foreign:
        wait(directory, error)
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def adopt(each: Found) -> None:
        async with limiter:
            try:
                adoption.taken.append(await _adopt(runtime, each, seconds))
            except _NotYetError as error:
                each.give_up()
                wait(each.directory, error)
            except (CRIError, OSError, ValueError, LookupError, msgspec.MsgspecError) as error:
                each.give_up()
                log.error("a sandbox cannot be adopted", directory=each.directory, why=explain(error))

    async with anyio.create_task_group() as tasks:
        for each in found:
            tasks.start_soon(adopt, each)
    return adoption


def _directories(runtime: Runtime) -> list[str]:
    return [each.directory for each in runtime.store.sandboxes.values()]


def _uid(directory: str) -> str:
    """Of the pod whose sandbox's directory this is: `<uid>`, or `<uid>.<attempt>`."""
    return os.path.basename(directory).partition(".")[0]


def _find(pods_dir: str, known: set[str], keeper: str) -> tuple[list[Found], list[tuple[str, Exception]]]:
    """Those that are to be had, and the directories of other versions' sandboxes with what is to be said of them.

    Blocking.
    """
    found: list[Found] = []
    foreign: list[tuple[str, Exception]] = []
    try:
        names = sorted(os.listdir(pods_dir))
    except FileNotFoundError:
        return found, foreign
    for name in names:
        directory = f"{pods_dir}/{name}"
        if directory in known or not os.path.exists(f"{directory}/{RECORD}"):
            continue
        try:
            each = _look(directory, keeper)
        except RecordVersionError as error:
            foreign.append((directory, error))
            continue
        except (OSError, ValueError) as error:
            log.warning("a record cannot be read", directory=directory, why=explain(error))
            continue
        if each is not None:
            found.append(each)
    return found, foreign


def _look(directory: str, keeper: str) -> Found | None:
    """The sandbox if it is to be had. Raises OSError, RecordVersionError, ValueError."""
    lock = FileLock(f"{directory}/{LOCK}")
    if not lock.acquire(wait=False):
        return None
    try:
        entries = load(f"{directory}/{RECORD}")
        ours = entries and entries[0].get("stay") and entries[0].get("keeper", "") == keeper
        if ours and any("confirmed" in each for each in entries):
            return Found(directory, lock, entries, _connect(directory))
    except BaseException:
        lock.release()
        raise
    lock.release()
    return None


def _connect(directory: str) -> socket.socket | None:
    try:
        return connect(directory)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


async def _adopt(runtime: Runtime, found: Found, seconds: float) -> str:
    sandbox = _sandbox(runtime, found)
    states: dict[str, Entry] = {}
    # What its shim reports before its containers are known: nobody could be told of it yet.
    exits: list[Entry] = []
    if found.sock is not None:
        states = await _adopt_shim(runtime, sandbox, found, seconds, exits)
    if not sandbox.ready:
        states |= await to_thread.run_sync(_recorded_exits, found.directory)
    containers = await to_thread.run_sync(_containers, runtime, sandbox, found.entries, states)
    runtime.store.reserve_sandbox(sandbox.config, sandbox.id)
    runtime.store.sandboxes[sandbox.id] = sandbox
    for container in containers:
        runtime.store.reserve_container(sandbox, container.config, container.id)
        runtime.store.containers[container.id] = container
        sandbox.containers[container.id] = container
    if sandbox.shim is not None:
        sandbox.shim.on_exited = partial(shim_reports.shim_reported_exit, runtime)
        for message in exits:
            shim_reports.shim_reported_exit(runtime, message)
        if sandbox.shim.gone:
            shim_reports.shim_lost(runtime, sandbox)  # it ended while its containers were being looked at
    return sandbox.id


def _sandbox(runtime: Runtime, found: Found) -> Sandbox:
    header = found.entries[0]
    config = msgspec.convert(header["config"], PodSandboxConfig)
    sandbox = Sandbox(header["sandbox"], config, header["created_at"], found.directory)
    sandbox.runtime_handler = header.get("runtime_handler", "")
    sandbox.netns_path = header.get("netns", "")
    sandbox.network = header.get("network")
    sandbox.ips = next((each["ips"] for each in reversed(found.entries) if "confirmed" in each), [])
    sandbox.lock = found.lock
    return sandbox


# --- the shim ---------------------------------------------------------------------------------


async def _adopt_shim(
    runtime: Runtime, sandbox: Sandbox, found: Found, seconds: float, exits: list[Entry]
) -> dict[str, Entry]:
    """Becomes the shim's owner, and makes the sandbox ready; returns what it says of its containers, by id.

    From then on the exits that it reports are added to `exits`.

    A shim that is about to end, or ends now, leaves the sandbox as it is. Raises CRIError for one that does not
    answer: it is not ended, for it may only have been stopped.
    """
    sock, found.sock = found.sock, None
    assert sock is not None
    pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    shim = shim_reports.new_shim(runtime, sandbox, sock)
    shim.on_exited = exits.append
    shim.pid = pid
    shim.start_serving(runtime.tasks)
    try:
        shim.pidfd = os.pidfd_open(pid)
        with anyio.fail_after(seconds):
            answer, _ = await shim.request({"m": "status"})
            if answer["orphan"] == "stay" and answer["version"] > max(ADOPTABLE):
                raise _NotYetError(
                    f"the shim of pod {sandbox.pod}, process {pid}, speaks version {answer['version']} of the protocol,"
                    f" and this podlite {max(ADOPTABLE)} at most",
                    hint="a newer podlite can adopt it; `kill -KILL` of the shim ends the pod",
                )
            if answer["orphan"] != "stay" or answer["version"] not in ADOPTABLE:
                if answer["orphan"] == "stay":
                    log.warning("a shim of another version is ended", version=answer["version"], **sandbox.ids)
                await shim.shutdown()
                shim.close()
                return {}
            answer, _ = await shim.request({"m": "adopt", "orphan": "stay"})
        sandbox.shim = shim
        sandbox.ready = True
        shim.prepares = answer.get("prepares", False)
        return await _settled(shim, answer)
    except TimeoutError:
        shim.close()
        raise _NotYetError(
            f"the shim of pod {sandbox.pod}, process {pid}, does not answer",
            hint="it may have been stopped: `kill -CONT` continues it, `kill -KILL` ends the pod",
        ) from None
    except CRIError:
        if not shim.gone:
            shim.close()
            raise
        shim.close()
        return {}
    except ProcessLookupError:
        shim.close()
        return {}


async def _settled(shim: ShimClient, answer: dict[str, Any]) -> dict[str, Entry]:
    """The containers' states once none is between fork and execve any more."""
    with anyio.move_on_after(_STARTING_SECONDS):
        while any(each["state"] == "starting" for each in as_states(answer)):
            await anyio.sleep(0.01)
            answer, _ = await shim.request({"m": "status"})
    return {each["container"]: each for each in as_states(answer)}


def _recorded_exits(directory: str) -> dict[str, Entry]:
    """What a shim that is gone has written down. Blocking."""
    states: dict[str, Entry] = {}
    try:
        with open(f"{directory}/{EXITS}", "rb") as file:
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            entry = msgspec.json.decode(line)
            states[entry["container"]] = {**entry, "state": "exited"}
        except (msgspec.DecodeError, KeyError, TypeError):
            continue  # a full disk, or it was killed while it wrote
    return states


# --- containers -------------------------------------------------------------------------------


class _Recorded:
    """What the record says of one container."""

    __slots__ = ("created", "entry", "failed", "image", "limits", "started", "volumes")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.image: Entry = {}
        self.created = self.started = False
        self.failed: Entry | None = None
        # What an update has changed its limits to.
        self.limits: Entry | None = None
        # Which image each mount is; empty for those that are none.
        self.volumes: list[str] = []


def recorded_containers(entries: list[Entry]) -> list[_Recorded]:
    """The containers that the record has and that were not removed, oldest first. Pure."""
    found: dict[str, _Recorded] = {}
    for entry in entries:
        if "container" in entry:
            found[entry["container"]] = _Recorded(entry)
            continue
        for key in ("image", "created", "starting", "limited", "failed", "removed"):
            each = found.get(entry.get(key, ""))
            if each is None:
                continue
            if key == "image":
                each.image = entry
            elif key == "created":
                each.created = True
                each.volumes = entry.get("volumes", [])
            elif key == "starting":
                each.started = True
            elif key == "limited":
                each.limits = entry["resources"]
            elif key == "failed":
                each.failed = entry
            else:
                del found[entry[key]]
    return list(found.values())


def _containers(runtime: Runtime, sandbox: Sandbox, entries: list[Entry], states: dict[str, Entry]) -> list[Container]:
    """The sandbox's containers as they are now; half-made ones are removed. Blocking. Raises OSError."""
    result = []
    for recorded in recorded_containers(entries):
        entry = recorded.entry
        container = Container(
            entry["container"], sandbox, msgspec.convert(entry["config"], ContainerConfig), entry["created_at"]
        )
        container.cgroup = entry.get("cgroup", "")
        container.log_path = entry.get("log_path", "")
        state = states.get(container.id)
        if state is None and not recorded.created:
            # CreateContainer never returned it to anybody.
            remove_blocking(runtime, container)
            continue
        _describe(runtime, container, recorded)
        _set_state(runtime, container, recorded, state)
        result.append(container)
    return result


def _describe(runtime: Runtime, container: Container, recorded: _Recorded) -> None:
    config = container.config
    for mount, image_ref in zip(config.mounts, recorded.volumes, strict=False):
        if mount.image is not None:
            mount.image.image_ref = image_ref
    container.image_id = recorded.image.get("image_id", "")
    container.image_ref = recorded.image.get("image_ref", container.image_id)
    if "user" in recorded.image:
        container.user = msgspec.convert(recorded.image["user"], LinuxContainerUser)
    container.home = recorded.image.get("home", "/")
    image = runtime.image_store.find(container.image_id) if container.image_id else None
    container.image = image.config if image is not None else None
    image_signal = image.config.stop_signal if image is not None else ""
    container.stop_signal = config.stop_signal or image_signal or "SIGTERM"
    linux = config.linux
    if runtime.cgroups is not None:
        container.resources = linux.resources if linux is not None and linux.resources else LinuxContainerResources()
        if recorded.limits is not None:
            container.resources = msgspec.convert(recorded.limits, LinuxContainerResources)


def _set_state(runtime: Runtime, container: Container, recorded: _Recorded, state: Entry | None) -> None:
    """`state` is what the shim says, or said, of the container; None if it never heard of it, or is gone."""
    if state is not None and state["state"] == "running":
        container.state = RUNNING
        container.pid = state["pid"]
        container.started_at = state["started_at"]
        container.exec_ns = time.monotonic_ns() - max(time.time_ns() - container.started_at, 0)
        return
    if state is not None and state["state"] == "exited":
        container.started_at = state["started_at"]
        container.finished_at = state["finished_at"]
        container.exit_code = state["code"]
        container.reason = "OOMKilled" if state["oom"] else "Completed" if state["code"] == 0 else "Error"
        _end(container, EXITED)
    elif recorded.failed is not None or state is not None:
        failed = recorded.failed or {}
        container.exit_code = START_ERROR_CODE
        container.reason = "StartError"
        container.message = failed.get("message", "the start was interrupted")
        container.finished_at = failed.get("at") or time.time_ns()
        _end(container, EXITED)
    elif not recorded.started and container.sandbox.ready:
        _make_startable(runtime, container)
    elif not recorded.started:
        container.finished_at = time.time_ns()
        container.message = LOST
        _end(container, EXITED)
    elif container.sandbox.ready:
        # The request never reached the shim: it can be made again.
        _make_startable(runtime, container)
    else:
        container.exit_code = 137
        container.reason = "ContainerStatusUnknown"
        container.message = LOST
        container.finished_at = time.time_ns()
        _end(container, UNKNOWN)


def _end(container: Container, state: str) -> None:
    container.state = state
    container.exited.set()


def _make_startable(runtime: Runtime, container: Container) -> None:
    """What CreateContainer keeps for the start; without its image the container can only be removed."""
    container.state = CREATED
    image = runtime.image_store.find(container.image_id)
    if image is None:
        return
    rootfs = describe_rootfs(runtime.image_store, image)
    prepared = Prepared(f"{runtime.layout.containers_dir}/{container.id}")
    prepared.rootfs = rootfs
    if any(mount.image is not None for mount in container.config.mounts):
        from podlite.runtime.container import image_volumes

        try:
            prepared.image_volumes = image_volumes.acquire(runtime.image_store, container.id, container.config.mounts)
        except CRIError:
            return
    make_writable_layer(prepared.writable, container, rootfs.lower[0])
    make_cgroup(runtime, container, prepared)
    container.prepared = prepared
