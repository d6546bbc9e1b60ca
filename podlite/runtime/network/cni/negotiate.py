"""Which version of the protocol a network is spoken to in: the highest that its configuration and plugins share.

The specification demands the highest of the configuration's; that the plugins are asked too (VERSION) is optional,
and makes a mistake show before anything is made. A program is asked once: what it said is kept in the run
directory, by the program's identity on disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.linux.fs import read_file, replace_file
from podlite.runtime import run_directory
from podlite.runtime.network.cni import invoke
from podlite.runtime.network.cni.config import SPEC_VERSIONS, NetworkConfig
from podlite.runtime.network.cni.errors import ConfigError, PluginError
from podlite.runtime.network.cni.request import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def choose(config: NetworkConfig, supported: Mapping[str, Sequence[str]]) -> str:
    """The version, from what each plugin type of the network supports. Pure. Raises ConfigError if there is none."""
    common = [version for version in config.versions if all(version in each for each in supported.values())]
    if common:
        return common[-1]
    wanted = " or ".join(config.versions)
    unable = [
        f"{kind} supports {', '.join(versions) or 'none'}"
        for kind, versions in supported.items()
        if not set(versions) & set(config.versions)
    ]
    said = "; ".join(unable) or "each supports some of them, and none is common to all"
    raise ConfigError(
        f"The CNI network {config.name} is for version {wanted}, which its plugins do not all support: {said}.",
        hint="cniVersions in the configuration can name several versions (CNI 1.1)",
    )


def plugin_types(config: NetworkConfig) -> list[str]:
    """The programs of a network, those that its plugins delegate their addresses to among them; each once."""
    found: dict[str, None] = {}
    for plugin in config.plugins:
        found[plugin["type"]] = None
        ipam = plugin.get("ipam")
        kind = ipam.get("type") if isinstance(ipam, dict) else None
        if isinstance(kind, str) and kind and "/" not in kind:
            found[kind] = None
    return list(found)


class Versions:
    """What programs have said of themselves; shared through a file, and safe to lose. All functions block."""

    def __init__(self, run_dir: str, seconds: float = invoke.SECONDS) -> None:
        self._run_dir = run_dir
        self._path = f"{run_dir}/network/cni/versions.json"
        self._seconds = seconds
        self._known: dict[str, list[str]] = {}
        self._loaded = False

    def negotiate(self, config: NetworkConfig, directories: Sequence[str]) -> str:
        """The version for a network. Raises PluginMissingError, PluginError, ConfigError."""
        supported = {kind: self.supported(kind, directories, config.versions[-1]) for kind in plugin_types(config)}
        return choose(config, supported)

    def supported(self, kind: str, directories: Sequence[str], version: str) -> list[str]:
        """The versions of SPEC_VERSIONS that a plugin supports. Raises PluginMissingError, PluginError."""
        path = invoke.find_plugin(kind, directories)
        identity = _identity(path)
        if not self._loaded:
            self._load()
        if identity not in self._known:
            self._known[identity] = self._ask(kind, directories, version)
            self._store()
        return self._known[identity]

    def _ask(self, kind: str, directories: Sequence[str], version: str) -> list[str]:
        # Plugins of an old make look for these whatever they are asked; libcni has them too.
        environ = environment(os.environ, "VERSION", directories, netns="dummy", interface="dummy")
        try:
            printed = invoke.invoke(kind, directories, environ, {"cniVersion": version}, seconds=self._seconds)
        except PluginError as error:
            if error.code == 1 or "unknown CNI_COMMAND: VERSION" in error.message:
                return []  # older than VERSION, and so than everything that we speak
            raise
        try:
            answer: Any = msgspec.json.decode(printed)
            listed = answer["supportedVersions"]
            return [each for each in SPEC_VERSIONS if each in listed]
        except (msgspec.DecodeError, LookupError, TypeError) as error:
            raise PluginError(
                f"VERSION by the CNI plugin {kind} was answered by what is no list of versions:"
                f" {printed[:200].decode(errors='replace')!r}."
            ) from error

    def _load(self) -> None:
        self._loaded = True
        try:
            self._known = msgspec.json.decode(read_file(self._path), type=dict[str, list[str]])
        except (OSError, msgspec.DecodeError):
            pass

    def _store(self) -> None:
        try:
            # Asked by who only looks at the machine, too, before there is a runtime.
            run_directory.prepare(self._run_dir)
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            scratch = f"{self._path}.{os.getpid()}"
            replace_file(self._path, msgspec.json.encode(self._known), scratch=scratch, durable=False)
        except OSError:
            pass  # it is asked again then


def _identity(path: str) -> str:
    about = os.stat(path)
    return f"{path} {about.st_dev}:{about.st_ino} {about.st_size} {about.st_mtime_ns}"
