"""Tearing down what a killed podlite left behind, from its records alone.

A record is an orphan if nobody holds its lock and its shim is dead. Reaping is what teardown is: the record names
everything that might exist, each step is idempotent, and the record goes last; what cannot be taken back keeps it
for another attempt. Everything here blocks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import msgspec

from podlite.errors import explain
from podlite.linux import netns
from podlite.linux.cgroups import Cgroups
from podlite.linux.fs import remove_tree
from podlite.runtime.image.store import ImageStore
from podlite.runtime.journal import FILE as RECORD
from podlite.runtime.journal import Entry, load
from podlite.runtime.layout import Layout, is_pod_file
from podlite.runtime.locks import FileLock
from podlite.runtime.network.interface import PodNetwork
from podlite.runtime.sandbox.run import LOCK
from podlite.runtime.shim_client import connect
from podlite.steps import step

# A shim whose owner was killed ends its containers, and itself, at once.
SHIM_SECONDS = 5.0
# The kubelet side's mark in a pod's directory: the pod is over, and is kept although nobody holds its locks.
POD_KEPT = "pod.kept"


class Orphan:
    """A sandbox without an owner. `entries` are its record; empty if that is void or was never written."""

    def __init__(self, directory: str, lock: FileLock, entries: list[Entry]) -> None:
        self.directory = directory
        self.lock = lock
        self.entries = entries

    @property
    def header(self) -> Entry:
        return self.entries[0] if self.entries else {}

    @property
    def pod(self) -> str:
        """`namespace/name`, or the directory's name where the record does not say."""
        metadata = self.header.get("config", {}).get("metadata", {})
        if not metadata:
            return os.path.basename(self.directory)
        return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"

    def containers(self) -> dict[str, Entry]:
        """The containers that may have left something: id → what the record says of it."""
        found: dict[str, Entry] = {}
        for entry in self.entries:
            if "container" in entry:
                found[entry["container"]] = entry
            elif "removed" in entry:
                found.pop(entry["removed"], None)
        return found


class Reaper:
    """Finds and tears down orphans of one run directory; `problem` is told what could not be taken back."""

    def __init__(
        self,
        layout: Layout,
        networks: Callable[[str], PodNetwork | None],
        images: ImageStore,
        cgroups: Cgroups | None,
        problem: Callable[[str], None],
    ) -> None:
        """`networks` gives the network of a name (`builtin`, `none`, `host` …), None if there is no such one."""
        self._layout = layout
        self._networks = networks
        self._images = images
        self._cgroups = cgroups
        self._problem = problem

    def reap(self, only: Collection[str] | None = None) -> list[str]:
        """Tears down every orphan; returns the pods (`namespace/name`) that were. Raises nothing: see `problem`.

        With `only`, the sandboxes of these pods (UIDs) and no others, also where the pods are kept.
        """
        reaped = []
        for orphan in self.orphans(only):
            try:
                with step("reap.orphans", pod=orphan.pod):
                    if self._tear_down(orphan):
                        reaped.append(orphan.pod)
            except OSError as error:
                # One that cannot be torn down now keeps nobody from starting.
                self._problem(f"the pod {orphan.pod} that was left behind stays: {explain(error)}")
            finally:
                orphan.lock.release()
        self._remove_other_boots()
        return reaped

    def _remove_other_boots(self) -> None:
        """The writable layers that a reboot has left."""
        parent, current = os.path.split(self._layout.containers_dir)
        try:
            names = os.listdir(parent)
        except FileNotFoundError:
            return
        for name in names:
            if name != current:
                try:
                    _remove_tree(f"{parent}/{name}")
                except OSError as error:
                    self._problem(f"the containers' files of an earlier boot stay: {explain(error)}")

    def orphans(self, only: Collection[str] | None = None) -> Iterator[Orphan]:
        """The sandboxes without an owner, each locked by us; the receiver releases the lock. `only` as for `reap`."""
        try:
            names = os.listdir(self._layout.pods_dir)
        except FileNotFoundError:
            return
        for name in names:
            uid = name.partition(".")[0]
            if uid not in only if only is not None else os.path.exists(f"{self._layout.pods_dir}/{uid}/{POD_KEPT}"):
                continue
            directory = f"{self._layout.pods_dir}/{name}"
            orphan = self._orphan(directory)
            if orphan is not None:
                yield orphan

    def _orphan(self, directory: str) -> Orphan | None:
        try:
            if all(map(is_pod_file, os.listdir(directory))):
                return None  # the kubelet side's files only
        except (FileNotFoundError, NotADirectoryError):
            return None
        lock = FileLock(f"{directory}/{LOCK}")
        try:
            if not lock.acquire(wait=False):
                return None
            if self._shim_lives(directory):
                lock.release()
                return None
            try:
                entries = load(f"{directory}/{RECORD}")
            except FileNotFoundError:
                entries = []
            return Orphan(directory, lock, entries)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            lock.release()
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._problem(f"the record in {directory} cannot be used: {explain(error)}")
            return None

    def _shim_lives(self, directory: str) -> bool:
        """Whether the shim is there and stays: one whose owner was killed is waited for."""
        try:
            sock = connect(directory)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        with sock:
            sock.settimeout(SHIM_SECONDS)
            if self._stays(sock):
                return True
            try:
                # Nothing is sent to a guest that does not ask: what comes is the end.
                return bool(sock.recv(1))
            except TimeoutError:
                return True
            except OSError:
                return False

    @staticmethod
    def _stays(sock: socket.socket) -> bool:
        """What the shim says of itself: whether it serves on without an owner."""
        from podlite.runtime.shim import protocol

        try:
            protocol.send(sock, {"m": "status", "id": 1})
            received = protocol.receive(sock)
        except OSError:
            return False
        return received is not None and received[0].get("orphan") == "stay"

    # --- teardown ---------------------------------------------------------------------------

    def _tear_down(self, orphan: Orphan) -> bool:
        """True if everything is gone, the record with it."""
        steps: list[tuple[str, Callable[[], None]]] = []
        for id, entry in orphan.containers().items():
            steps.append((f"the cgroup of container {id[:12]}", partial(self._remove_cgroup, entry)))
            steps.append((f"the files of container {id[:12]}", partial(_remove_tree, entry["writable"])))
            steps.append((f"the image of container {id[:12]}", partial(self._images.release, id)))
            images = [mount["image"]["image"] for mount in entry["config"].get("mounts", ()) if mount.get("image")]
            if images:
                from podlite.runtime.container import image_volumes

                steps.append(
                    (f"the volumes of container {id[:12]}", partial(image_volumes.release, self._images, id, images))
                )
        header = orphan.header
        if header.get("network"):
            steps.append(("its network", lambda: self._remove_network(header["network"])))
        if header.get("netns"):
            steps.append(("its network namespace", lambda: netns.remove(header["netns"])))
        failed = False
        for what, undo in steps:
            try:
                undo()
            except Exception as error:
                failed = True
                self._problem(f"{what}, of the pod {orphan.pod} that was left behind, stays: {explain(error)}")
        if not failed:
            _remove_directory(orphan.directory)
        return not failed

    def _remove_cgroup(self, entry: Entry) -> None:
        cgroup = entry.get("cgroup", "")
        if not cgroup or self._cgroups is None:
            return
        self._cgroups.kill(cgroup)
        self._cgroups.remove(cgroup)

    def _remove_network(self, record: dict[str, Any]) -> None:
        network = self._networks(record.get("network", ""))
        if network is None:
            raise LookupError(f"this podlite has no network {record.get('network')!r}")
        network.teardown_pod_network(record)


def _remove_tree(path: str) -> None:
    directory, name = os.path.split(path)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def _remove_directory(directory: str) -> None:
    """The sandbox's files, the record last; the kubelet side's stay.

    A shim that was starting when its owner was killed may make its socket meanwhile, which goes too: it cannot any
    more once the directory is gone, and makes it once.
    """
    while names := [each for each in os.listdir(directory) if not is_pod_file(each)]:
        for name in sorted(names, key=lambda each: each == RECORD):
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                pass
        try:
            os.rmdir(directory)
        except OSError:
            continue  # not empty: of files of ours, or of the kubelet side's
        return
