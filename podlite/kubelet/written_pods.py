"""Pods as they are written down in the run directory, for whoever looks from outside: what they are, and whose.

    <run dir>/pods/<uid>/pod.json   the manifest with its status, replaced atomically
                         pod.lock   flock: held by the process that runs the pod; in it, who that is and where it
                                    keeps the pod's files
                         pod.events what happened to it, a list of Events, the latest last; replaced atomically
                         pod.kept   the pod is over, and is kept although nobody holds its lock
                         pod.sock   where the process listens that runs the pod on another runtime than podlite's own

The runtime's record lies in the same directory, in files whose names do not begin with `pod.`. Everything here
blocks, and imports little: `podlite ps` is to answer at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from podlite import log
from podlite.linux.fs import lock_file, make_directory, read_file, replace_file, write_all

if TYPE_CHECKING:
    from podlite.api.events import Event
    from podlite.api.pod import Pod
    from podlite.kubelet.types import KubeletConfig

NAME = "pod.json"
EVENTS = "pod.events"
LOCK = "pod.lock"
KEPT = "pod.kept"
DOOR = "pod.sock"


class Holder(msgspec.Struct):
    """What `pod.lock` says: the process that runs the pod, or did, and its directories.

    `stay`: the pod outlives that process, and waits for another one that adopts it. `runtime_endpoint` is where the
    runtime is that has its sandbox, if it is somebody else's.
    """

    pid: int = 0
    stay: bool = False
    state_dir: str = ""
    log_dir: str = ""
    cgroup_root: str = ""
    runtime_endpoint: str = ""


class WrittenPod(msgspec.Struct):
    """A pod that was found. `held`: its process lives; `kept`: it is over, and kept for a look inside."""

    pod: Pod
    directory: str
    holder: Holder
    held: bool
    kept: bool

    @property
    def orphaned(self) -> bool:
        """Whether the process that ran it was killed, and nobody is to adopt it."""
        return not self.held and not self.kept and not self.holder.stay

    def shown(self) -> Pod:
        """The pod as it is to be shown: of one whose podlite was killed nothing is known any more. Pure."""
        if not self.orphaned:
            return self.pod
        from msgspec import structs

        status = structs.replace(
            self.pod.status,
            phase="Unknown",
            reason="Orphaned",
            message=f"the podlite that ran this pod, process {self.holder.pid}, has been killed",
            container_statuses=[structs.replace(each, ready=False) for each in self.pod.status.container_statuses],
        )
        return structs.replace(self.pod, status=status)


def take(directory: str, config: KubeletConfig) -> int:
    """Makes the pod's directory, locks it, and writes down who did; returns the lock's descriptor. Raises OSError."""
    holder = Holder(
        os.getpid(), config.pods_stay, config.state_dir, config.log_dir, config.cgroup_root, config.runtime_endpoint
    )
    while True:
        make_directory(directory, 0o711)
        try:
            fd = lock_file(f"{directory}/{LOCK}")
        except FileNotFoundError:
            continue  # taken for an orphan's before it was locked, and removed
        assert fd is not None
        os.ftruncate(fd, 0)
        write_all(fd, msgspec.json.encode(holder))
        return fd


def write_pod(directory: str, pod: Pod) -> None:
    """Raises OSError."""
    data = msgspec.json.encode(pod)
    try:
        replace_file(f"{directory}/{NAME}", data, scratch=f"{directory}/.{NAME}", durable=False)
    except FileNotFoundError:
        make_directory(directory, 0o711)
        replace_file(f"{directory}/{NAME}", data, scratch=f"{directory}/.{NAME}", durable=False)


def write_events(directory: str, events: list[Event]) -> None:
    """Raises OSError."""
    data = msgspec.json.encode(events)
    replace_file(f"{directory}/{EVENTS}", data, scratch=f"{directory}/.{EVENTS}", durable=False)


def read_events(directory: str) -> list[Event]:
    """What happened to the pod in a directory; nothing where nothing is written down of it, or cannot be read."""
    from podlite.api.decode import from_builtins
    from podlite.api.events import Event

    try:
        return [from_builtins(each, Event) for each in msgspec.json.decode(read_file(f"{directory}/{EVENTS}"))]
    except (OSError, ValueError):
        return []


def keep(directory: str) -> None:
    """Marks a pod that is over as kept: no reaper takes it for an orphan's. Idempotent. Raises OSError."""
    os.close(os.open(f"{directory}/{KEPT}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def remove_files(directory: str) -> None:
    """Removes the files of this side, the lock last, and the directory if nothing else is in it. Idempotent."""
    for name in (f".{NAME}", f".{EVENTS}", EVENTS, DOOR, NAME, KEPT, LOCK):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(directory)
    except OSError:
        pass  # the runtime's record is in it, and goes with the sandbox


def read_pod(path: str) -> Pod:
    """The pod in a file. Raises OSError, and ValueError for what is no pod."""
    from podlite.api.decode import from_builtins
    from podlite.api.pod import Pod

    try:
        return from_builtins(msgspec.json.decode(read_file(path)), Pod)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_holder(directory: str) -> tuple[Holder, bool]:
    """(who holds the pod's lock or held it last, whether somebody does). Raises OSError."""
    try:
        fd = lock_file(f"{directory}/{LOCK}", shared=True, wait=False, create=False)
    except FileNotFoundError:
        return Holder(), False
    held = fd is None
    if fd is not None:
        os.close(fd)
    try:
        return msgspec.json.decode(read_file(f"{directory}/{LOCK}"), type=Holder), held
    except (FileNotFoundError, msgspec.DecodeError):
        return Holder(), held  # locked a moment ago, and not written yet; or gone


def find(directory: str) -> WrittenPod:
    """The pod in a directory of the run directory. Raises OSError, and ValueError for what is no pod."""
    pod = read_pod(f"{directory}/{NAME}")
    holder, held = read_holder(directory)
    kept = os.path.exists(f"{directory}/{KEPT}")
    if not held:
        # Whoever removes a pod removes this file first, and gives up the lock last: a pod is an orphan's only if the
        # file is there still. And what its process wrote last, it may have written after the first look.
        pod = read_pod(f"{directory}/{NAME}")
    return WrittenPod(pod, directory, holder, held, kept)


def find_pods(run_dir: str) -> list[WrittenPod]:
    """Every pod that is written down, unreadable ones left out, and logged. Raises PermissionError."""
    found = []
    for directory in _directories(run_dir):
        try:
            found.append(find(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            log.warning("a pod's file cannot be read", path=f"{directory}/{NAME}", why=str(error))
    return found


def read_pods(run_dir: str) -> list[Pod]:
    """Every pod that any podlite with this run directory has written down, unreadable files left out."""
    try:
        return [each.pod for each in find_pods(run_dir)]
    except OSError:
        return []


def _directories(run_dir: str) -> list[str]:
    try:
        return [f"{run_dir}/pods/{name}" for name in sorted(os.listdir(f"{run_dir}/pods"))]
    except (FileNotFoundError, NotADirectoryError):
        return []
