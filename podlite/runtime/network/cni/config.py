"""CNI network configurations: how they are read, which one comes first, and what is wrong with them.

A directory has `.conflist` files (a network each) and, from before CNI 1.0, `.conf` or `.json` files (a single
plugin, taken for a list of one). In the order of their names, the first is the pods' network; the others can be
asked for by name. Plugins of a network may also be in files of their own, `<directory>/<network>/*.conf`
(`loadOnlyInlinedPlugins`). Nothing is remembered: a change counts from the next pod on.

Sources: SPEC.md section 1 (CNI 1.1.0); for what it leaves open libcni/conf.go, and containerd's go-cni for the order.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from podlite.errors import explain
from podlite.linux.fs import read_file
from podlite.runtime.network.cni.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

# The versions of the protocol that podlite speaks, lowest first.
SPEC_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

_EXTENSIONS = (".conf", ".conflist", ".json")
_MAX_FILE = 1 << 20

Plugin = dict[str, Any]


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One network. `plugins` are the plugins' configurations as they were written, in the order of ADD; `versions`
    those of SPEC_VERSIONS that the configuration is for, lowest first; `path` the file that it came from."""

    name: str
    versions: list[str]
    plugins: list[Plugin]
    disable_check: bool = False
    disable_gc: bool = False
    path: str = ""

    def has_capability(self, name: str) -> bool:
        """Whether some plugin declares the capability."""
        return any(declares(plugin, name) for plugin in self.plugins)


def declares(plugin: Plugin, capability: str) -> bool:
    """Whether a plugin's configuration says that it takes this capability argument."""
    capabilities = plugin.get("capabilities")
    return isinstance(capabilities, dict) and capabilities.get(capability) is True


def default_network(directory: str) -> NetworkConfig:
    """The network of pods that ask for none by name: the first file's. Blocking.

    Raises ConfigError if there is none, or if that file cannot be used: a mistake in it must not put pods on some
    other network.
    """
    for path in _files(directory, _EXTENSIONS):
        return load(path)
    raise ConfigError(
        f"There is no CNI network configuration in {directory}.",
        hint="put a .conflist file there, name another directory with --cni-conf-dir, or use --network builtin",
    )


def named_network(directory: str, name: str) -> NetworkConfig:
    """The network of that name: a list before a single plugin, as libcni has it. Blocking. Raises ConfigError."""
    others: list[str] = []
    broken: list[str] = []
    for path in sorted(_files(directory, _EXTENSIONS), key=lambda path: not path.endswith(".conflist")):
        try:
            found = load(path)
        except ConfigError as error:
            broken.append(error.message)
            continue
        if found.name == name:
            return found
        others.append(found.name)
    there = f"there are {', '.join(sorted(others))}" if others else "there is none that can be used"
    why = f" {' '.join(broken)}" if broken else ""
    raise ConfigError(f"There is no CNI network {name!r} in {directory}: {there}.{why}")


def every_network(directory: str) -> Iterator[NetworkConfig | ConfigError]:
    """All networks of a directory, or why a file is none. Blocking. Raises ConfigError if it cannot be listed."""
    for path in _files(directory, _EXTENSIONS):
        try:
            yield load(path)
        except ConfigError as error:
            yield error


def load(path: str) -> NetworkConfig:
    """One file's network, with the plugins that lie beside it. Blocking. Raises ConfigError."""
    try:
        content = read_file(path, limit=_MAX_FILE)
    except OSError as error:
        raise ConfigError(f"The CNI configuration {path} cannot be read: {explain(error)}.") from error
    config = parse(content, path)
    if not path.endswith(".conflist"):
        return config
    raw = msgspec.json.decode(content)
    if not _flag(raw, "loadOnlyInlinedPlugins", path):
        beside = [
            _plugin(_decode(_read(file), file), file)
            for file in _files(f"{os.path.dirname(path)}/{config.name}", (".conf",))
        ]
        config = msgspec.structs.replace(config, plugins=[*config.plugins, *beside])
    if not config.plugins:
        raise _wrong(path, "it has no plugins, and there are none beside it")
    return config


def parse(content: bytes, path: str) -> NetworkConfig:
    """What a file says, by itself; pure. A `.conflist` may have no plugins of its own. Raises ConfigError."""
    raw = _decode(content, path)
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong(path, "it has no name")
    if not valid_name(name):
        raise _wrong(path, f"its name {name!r} is to begin with a letter or digit and go on with those, `_`, `.`, `-`")
    if not path.endswith(".conflist"):
        if "plugins" in raw:
            raise _wrong(path, "it has a list of plugins, for which the file has to be called .conflist")
        return NetworkConfig(name=name, versions=_versions(raw, path), plugins=[_plugin(raw, path)], path=path)
    plugins = raw.get("plugins")
    if plugins is None and _flag(raw, "loadOnlyInlinedPlugins", path):
        raise _wrong(path, "loadOnlyInlinedPlugins is true, and there are no plugins in it")
    if plugins is not None and (not isinstance(plugins, list) or not plugins):
        raise _wrong(path, "its plugins are no list with something in it")
    return NetworkConfig(
        name=name,
        versions=_versions(raw, path),
        plugins=[_plugin(each, path) for each in plugins or []],
        disable_check=_flag(raw, "disableCheck", path),
        disable_gc=_flag(raw, "disableGC", path),
        path=path,
    )


def valid_name(name: str) -> bool:
    """Whether a network or container may be called so (SPEC.md sections 1 and 2)."""
    return (
        name.isascii() and name[:1].isalnum() and all(character.isalnum() or character in "_.-" for character in name)
    )


def valid_interface(name: str) -> bool:
    """Whether the kernel lets a network device be called so (dev_valid_name)."""
    return 0 < len(name.encode()) < 16 and name not in (".", "..") and not any(c in "/:" or c.isspace() for c in name)


def _versions(raw: dict[str, Any], path: str) -> list[str]:
    """Those that we speak too; cniVersion counts as one of cniVersions."""
    declared = raw.get("cniVersions", [])
    single = raw.get("cniVersion")
    if not isinstance(declared, list) or not all(isinstance(each, str) for each in declared):
        raise _wrong(path, "its cniVersions are no list of versions")
    if single is not None and not isinstance(single, str):
        raise _wrong(path, "its cniVersion is no version")
    # An absent or empty one means 0.1.0, from before there were others.
    wanted = {*declared, *([single or "0.1.0"] if single or not declared else [])}
    found = [version for version in SPEC_VERSIONS if version in wanted]
    if not found:
        raise _wrong(
            path,
            f"it is for version {' or '.join(sorted(wanted))} of CNI, and podlite speaks"
            f" {SPEC_VERSIONS[0]} to {SPEC_VERSIONS[-1]}",
        )
    return found


def _plugin(raw: Any, path: str) -> Plugin:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or not kind:
        raise _wrong(path, "a plugin in it has no type")
    if "/" in kind or kind in (".", ".."):
        raise _wrong(path, f"the type of a plugin is the name of a program, not a path: {kind!r}")
    for key in ("args", "capabilities"):
        if not isinstance(raw.get(key, {}), dict):
            raise _wrong(path, f"the {key} of the plugin {kind} are no object")
    return dict(raw)


def _flag(raw: dict[str, Any], key: str, path: str) -> bool:
    """Also as text, as libcni takes it."""
    value = raw.get(key, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _wrong(path, f"{key} is neither true nor false")
    return value


def _decode(content: bytes, path: str) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise _wrong(path, f"it is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise _wrong(path, "it is no JSON object")
    return raw


def _read(path: str) -> bytes:
    try:
        return read_file(path, limit=_MAX_FILE)
    except OSError as error:
        raise ConfigError(f"The CNI configuration {path} cannot be read: {explain(error)}.") from error


def _wrong(path: str, why: str) -> ConfigError:
    return ConfigError(f"The CNI configuration {path} cannot be used: {why}.")


def _files(directory: str, extensions: tuple[str, ...]) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            names = [each.name for each in entries if not each.is_dir() and each.name.endswith(extensions)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"The CNI configurations in {directory} cannot be listed: {explain(error)}.") from error
    return [f"{directory}/{name}" for name in sorted(names)]
