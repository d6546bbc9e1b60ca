"""cni: a network namespace, and the reference plugins executed in it by the CNI specification: ADD, then DEL.

The configuration is the first of /etc/cni/net.d, or the one that `--vs cni:FILE` names. This is
what a CRI runtime pays for its network alone; podlite's row `sandbox (cni)` beside it has the same configuration, and
a whole sandbox on top.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import to_thread

from podlite.bench.peers import Context
from podlite.bench.peers.commands import run
from podlite.bench.plan import SAME_CNI
from podlite.bench.workload import PeerMissingError, Workload
from podlite.linux import netns
from podlite.runtime.names import new_id
from podlite.runtime.namespace_threads import NamespaceThreads

CONF_DIR = "/etc/cni/net.d"
BIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_THREADS = 4


class Cni:
    impl = "cni"
    note = "cni: the namespace and its network only, no store and no shim"

    def __init__(self, config: dict[str, Any], context: Context) -> None:
        self._config = config
        self._directory = f"{context.directory}/cni-netns"
        self._plugins = [(_find_plugin(each["type"]), each) for each in config["plugins"]]
        self._loopback = _find_plugin("loopback")
        self.work = (("sandbox", ""), *((("sandbox", SAME_CNI),) if context.own_cni else ()))

    @asynccontextmanager
    async def open(self, scenario: str, variant: str) -> AsyncIterator[Workload]:
        directory = f"{self._directory}-{variant}"
        await to_thread.run_sync(netns.prepare_directory, directory)
        threads = NamespaceThreads(_THREADS)
        try:
            yield _Network(self, directory, threads)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(threads.close)
                await to_thread.run_sync(_unmount, directory)

    async def add(self, id: str, path: str) -> None:
        await self._call("ADD", self._loopback, {"type": "loopback"}, id, path, "lo", None)
        result = None
        for plugin, config in self._plugins:
            result = await self._call("ADD", plugin, config, id, path, "eth0", result)

    async def delete(self, id: str, path: str) -> None:
        for plugin, config in reversed(self._plugins):
            await self._call("DEL", plugin, config, id, path, "eth0", None)
        await self._call("DEL", self._loopback, {"type": "loopback"}, id, path, "lo", None)

    async def _call(
        self, command: str, plugin: str, config: dict[str, Any], id: str, path: str, interface: str, previous: Any
    ) -> Any:
        """One execution of a plugin (SPEC.md section 4)."""
        whole = {**config, "name": self._config["name"], "cniVersion": self._config["cniVersion"]}
        if previous is not None:
            whole["prevResult"] = previous
        environment = {
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": id,
            "CNI_NETNS": path,
            "CNI_IFNAME": interface,
            "CNI_PATH": ":".join(BIN_DIRS),
            "CNI_ARGS": "IgnoreUnknown=1",
        }
        said = await run([plugin], environment=environment, stdin=json.dumps(whole).encode(), output=True)
        return json.loads(said) if command == "ADD" else None


class _Network:
    def __init__(self, peer: Cni, directory: str, threads: NamespaceThreads) -> None:
        self._peer = peer
        self._directory = directory
        self._threads = threads

    async def create(self) -> tuple[str, str]:
        id = new_id()
        path = f"{self._directory}/{id}"
        await self._threads.run(lambda own: netns.create(path, own, lambda: None))
        try:
            await self._peer.add(id, path)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.teardown((id, path))
            raise
        return id, path

    async def teardown(self, handle: Any) -> None:
        id, path = handle
        try:
            await self._peer.delete(id, path)
        finally:
            await self._threads.run(lambda own: netns.remove(path))


def find(argument: str, context: Context) -> Cni:
    """`argument` is a conflist to use instead of the machine's first one."""
    conf_dir = context.cni_conf_dir or CONF_DIR
    path = argument or _first_conflist(conf_dir)
    if not path:
        raise PeerMissingError(f"there is no CNI configuration (.conflist) in {conf_dir}")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        config["plugins"][0]["type"], config["name"], config["cniVersion"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PeerMissingError(f"the CNI configuration {path} cannot be used: {error}") from error
    return Cni(config, context)


def _first_conflist(conf_dir: str) -> str:
    try:
        names = sorted(name for name in os.listdir(conf_dir) if name.endswith(".conflist"))
    except FileNotFoundError:
        return ""
    return f"{conf_dir}/{names[0]}" if names else ""


def _find_plugin(kind: str) -> str:
    found = shutil.which(kind, path=":".join(BIN_DIRS))
    if found is None:
        raise PeerMissingError(f"the CNI plugin {kind} is not in {', '.join(BIN_DIRS)}")
    return found


def _unmount(directory: str) -> None:
    from podlite.linux.syscalls import MNT_DETACH, umount2

    umount2(directory, MNT_DETACH)
