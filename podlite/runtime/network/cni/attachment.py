"""The operations of the specification: ADD, DEL and CHECK of one attachment, STATUS and GC of a network.

    ADD     plugin 1 ──result──▶ plugin 2 ──result──▶ plugin 3      the last one's result is the attachment's
    DEL     plugin 3, plugin 2, plugin 1, each with that result     an error stops it: it has to be tried again
    CHECK   plugin 1, plugin 2, plugin 3, each with that result

Source: SPEC.md sections 2, 3 and 5. Blocking; the caller sees to it that nothing else is done with the same container.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.cri.errors import CRIError
from podlite.errors import explain
from podlite.runtime.network.cni.cache import Attachment, Cache
from podlite.runtime.network.cni.errors import LIMITED_CONNECTIVITY, NOT_AVAILABLE, PluginError
from podlite.runtime.network.cni.invoke import SECONDS, find_plugin, invoke
from podlite.runtime.network.cni.request import Result, environment, request_configuration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podlite.runtime.network.cni.config import NetworkConfig, Plugin


class Plugins:
    """Carries the operations out. Safe between threads."""

    def __init__(self, directories: Sequence[str], cache: Cache, seconds: float = SECONDS) -> None:
        """`directories` have the plugins for what concerns no attachment; `seconds` is how long one operation of one
        plugin may take."""
        self.directories = directories
        self._cache = cache
        self._seconds = seconds

    def add(self, attachment: Attachment, stop: int = -1) -> Result:
        """Raises PluginError for the first plugin that fails; what those before it made is for `delete`. The plugin
        that runs is ended, which is a failure, when the descriptor `stop` becomes readable."""
        result: Result | None = None
        for number, plugin in enumerate(attachment.plugins, 1):
            self._cache.store(attachment, started=number, result=result)
            result = read_result(self._run("ADD", attachment, plugin, result, stop=stop), plugin, attachment)
        self._cache.store(attachment, started=len(attachment.plugins), result=result)
        return result or {}

    def delete(self, attachment: Attachment) -> None:
        """Idempotent. A plugin that never was started for this attachment is not asked to undo what it did not do.

        Raises PluginError for the first plugin that fails: those before it in the list are still to be done then,
        and what is written down stays for the next attempt. Raises OSError.
        """
        cached = self._cache.load(attachment)
        started = cached.podlite.started if cached is not None else len(attachment.plugins)
        previous = cached.result if cached is not None and not attachment.version.startswith("0.3.") else None
        netns = attachment.netns if is_netns(attachment.netns) else ""
        for plugin in reversed(attachment.plugins[:started]):
            self._run("DEL", attachment, plugin, previous, netns=netns)
        self._cache.remove(attachment)

    def check(self, attachment: Attachment) -> None:
        """Raises PluginError if a plugin finds the attachment changed. Before 0.4.0 there is no CHECK, and a network
        can refuse it."""
        cached = self._cache.load(attachment)
        if attachment.disable_check or attachment.version.startswith("0.3.") or cached is None:
            return
        for plugin in attachment.plugins:
            self._run("CHECK", attachment, plugin, cached.result)

    def status(self, config: NetworkConfig, version: str) -> list[str]:
        """Why the network's plugins cannot serve ADD, as sentences. Before 1.1.0 there is no STATUS."""
        if version != "1.1.0":
            return []
        problems = []
        for plugin in config.plugins:
            try:
                self._run_for_network("STATUS", config.name, version, plugin)
            except PluginError as error:
                said = str(error)
                if error.code == LIMITED_CONNECTIVITY:
                    said += " Pods that it serves may have limited connectivity."
                elif error.code != NOT_AVAILABLE and "unknown CNI_COMMAND" in said:
                    continue  # STATUS is optional for a plugin of an older make that says it supports 1.1.0
                problems.append(said)
        return problems

    def collect(self, config: NetworkConfig, version: str, valid: list[Attachment]) -> list[str]:
        """GC: has every plugin free what belongs to none of the `valid` attachments; what failed, as sentences.

        With the cache's lock held exclusively. Before 1.1.0 there is no GC, and a network can refuse it.
        """
        if version != "1.1.0" or config.disable_gc:
            return []
        listed = [{"containerID": each.container_id, "ifname": each.interface} for each in valid]
        # The second name is an earlier text's of the specification, and some plugins'.
        extra = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        failures = []
        for plugin in config.plugins:
            try:
                self._run_for_network("GC", config.name, version, plugin, extra)
            except PluginError as error:
                failures.append(str(error))
        return failures

    def missing(self, config: NetworkConfig) -> list[str]:
        """The plugins of a network that are not there, as sentences."""
        problems = []
        for plugin in config.plugins:
            try:
                find_plugin(plugin["type"], self.directories)
            except CRIError as error:
                problems.append(str(error))
        return problems

    def _run(
        self,
        command: str,
        attachment: Attachment,
        plugin: Plugin,
        previous: Result | None,
        *,
        netns: str | None = None,
        stop: int = -1,
    ) -> bytes:
        environ = environment(
            os.environ,
            command,
            attachment.directories,
            container_id=attachment.container_id,
            netns=attachment.netns if netns is None else netns,
            interface=attachment.interface,
            args=attachment.args,
        )
        configuration = request_configuration(
            attachment.network,
            attachment.version,
            plugin,
            capabilities=attachment.capabilities,
            previous=previous,
        )
        return invoke(
            plugin["type"],
            attachment.directories,
            environ,
            configuration,
            network=attachment.network,
            sandbox_id=attachment.container_id,
            seconds=self._seconds,
            stop=stop,
        )

    def _run_for_network(
        self, command: str, name: str, version: str, plugin: Plugin, extra: dict[str, Any] | None = None
    ) -> None:
        environ = environment(os.environ, command, self.directories)
        configuration = request_configuration(name, version, plugin, extra=extra)
        invoke(plugin["type"], self.directories, environ, configuration, network=name, seconds=self._seconds)


def read_result(printed: bytes, plugin: Plugin, attachment: Attachment) -> Result:
    """What a plugin printed after ADD, checked as far as podlite reads it; pure. Everything else in it is the next
    plugin's business, and passes as it is. Raises PluginError."""
    what = f"ADD by the CNI plugin {plugin['type']}, network {attachment.network},"
    try:
        result = msgspec.json.decode(printed)
    except msgspec.DecodeError as error:
        shown = printed[:200].decode(errors="replace")
        raise PluginError(f"{what} ended well, but printed what is no result: {shown!r} ({explain(error)}).") from error
    if not isinstance(result, dict):
        shown = printed[:200].decode(errors="replace")
        raise PluginError(f"{what} ended well, but printed what is no result: {shown!r}.")
    for key in ("ips", "interfaces", "routes"):
        value = result.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
            raise PluginError(f"{what} printed a result whose {key} are no list of objects.")
    for ip in result.get("ips") or []:
        if not _is_address(ip.get("address")):
            raise PluginError(f"{what} printed a result with an address that is none: {ip!r}.")
    if not isinstance(result.get("dns") or {}, dict):
        raise PluginError(f"{what} printed a result whose dns is no object.")
    # Some leave it out; libcni takes the one that was asked for then.
    return {"cniVersion": attachment.version, **result}


def _is_address(text: object) -> bool:
    """Whether it is an IP address in CIDR notation (SPEC.md section 5, "Success"). Pure."""
    if not isinstance(text, str):
        return False
    address, slash, length = text.partition("/")
    family, bits = (socket.AF_INET6, 128) if ":" in address else (socket.AF_INET, 32)
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return bool(slash) and length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits


def is_netns(path: str) -> bool:
    """Whether a path is the pin of a namespace: a mount of nsfs, and not the empty file that it begins as."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/thread-self/ns/net").st_dev
    except OSError:
        return False
