"""Where a registry is reached: mirrors, certificates and headers by containerd's `hosts.toml`, or the registry itself.

Source: containerd docs/hosts.md and core/remotes/docker/config/hosts.go. Two differences, both on the safe side: a
file that cannot be read or understood is an error and not passed over, and a host with `http://` is spoken to in
plain HTTP only, whatever certificates are stated beside it.
"""

from __future__ import annotations

import os
import tomllib
from typing import Any
from urllib.parse import urlsplit

import msgspec

from podlite.cri.errors import ImageError
from podlite.errors import explain
from podlite.runtime.image.reference import DEFAULT_DOMAIN

CERTS_DIRS = ("/etc/podlite/certs.d", "/etc/containerd/certs.d")

PULL, RESOLVE = "pull", "resolve"
_CAPABILITIES = frozenset((PULL, RESOLVE, "push", "referrers"))
# The registry that `docker.io` stands for.
_DOCKER_HOST = "registry-1.docker.io"
_MAX_FILE = 1 << 20


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One host that answers for a registry. `path` is the root of the API, without a slash at its end.

    `client` are pairs of files, certificate and key, the same file twice where one has both. With `plain_fallback` a
    host that turns out to speak no TLS is spoken to in plain HTTP. `namespace` is the registry that a mirror is told
    it stands for, empty for the registry's own host.
    """

    scheme: str
    host: str
    path: str = "/v2"
    resolves: bool = True
    pulls: bool = True
    ca: tuple[str, ...] = ()
    client: tuple[tuple[str, str], ...] = ()
    skip_verify: bool = False
    header: tuple[tuple[str, str], ...] = ()
    dial_timeout: float | None = None
    plain_fallback: bool = False
    namespace: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.path}"


def find_endpoints(registry: str, certs_dirs: tuple[str, ...] = CERTS_DIRS) -> list[Endpoint]:
    """The hosts to ask for `registry` (as it stands in an image's name), in order. Blocking; pure but for the files.

    The first directory of the first of `certs_dirs` that has one for the registry counts, `_default` included.
    Raises ImageError.
    """
    for root in certs_dirs:
        for name in _directory_names(registry):
            directory = f"{root}/{name}"
            if os.path.isdir(directory):
                return _read_directory(directory, registry)
    return [_registry_itself(registry)]


def is_loopback(host: str) -> bool:
    """Whether `host`, with or without a port, is this machine itself by name or address."""
    name = split_port(host)[0]
    if name == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_port(host: str) -> tuple[str, str]:
    """(name, port) of a URL's authority; the brackets of an IPv6 address are taken off, a missing port is empty."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = host.rpartition(":")
    return (name, port) if name and ":" not in name else (host, "")


def _directory_names(registry: str) -> list[str]:
    """The directories that may be meant, the most exact first: `host_port_` is for systems without colons in names."""
    names = []
    host, colon, port = registry.rpartition(":")
    if colon and host:
        names.append(f"{host}_{port}_")
    return [*names, registry, "_default"]


def _registry_itself(registry: str, **options: Any) -> Endpoint:
    if registry == DEFAULT_DOMAIN:
        return Endpoint(scheme="https", host=_DOCKER_HOST, **options)
    if is_loopback(registry):
        port = split_port(registry)[1]
        if port == "80":
            return Endpoint(scheme="http", host=registry, **options)
        if port not in ("", "443"):
            # As docker and containerd have it: TLS if that is what is spoken there, whoever signed for it.
            return Endpoint(scheme="https", host=registry, **{"skip_verify": True, **options, "plain_fallback": True})
    return Endpoint(scheme="https", host=registry, **options)


def _read_directory(directory: str, registry: str) -> list[Endpoint]:
    path = f"{directory}/hosts.toml"
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        raw = b""
    except OSError as error:
        raise ImageError(f"the configuration of registry {registry} cannot be read: {explain(error)}") from error
    if len(raw) > _MAX_FILE:
        raise ImageError(f"{path} has more than {_MAX_FILE} bytes")
    if not raw:
        return [_registry_itself(registry, **_certificate_files(directory))]
    try:
        document = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImageError(f"{path} is not valid TOML: {error}") from error
    return parse_hosts(document, directory, registry)


def _certificate_files(directory: str) -> dict[str, Any]:
    """Docker's layout: every `.crt` is an authority, every `.cert` one of ours, with the `.key` of the same name."""
    names = sorted(os.listdir(directory))
    client = []
    for name in names:
        if name.endswith(".cert"):
            key = f"{name.removesuffix('.cert')}.key"
            client.append((f"{directory}/{name}", f"{directory}/{key if key in names else name}"))
    ca = tuple(f"{directory}/{name}" for name in names if name.endswith(".crt"))
    return {"ca": ca, "client": tuple(client)} if ca or client else {}


def parse_hosts(document: dict[str, Any], directory: str, registry: str) -> list[Endpoint]:
    """The hosts of a parsed hosts.toml in their order; the server, if that is not stated the registry, is the last.

    Pure. Relative paths of certificates are relative to `directory`. Raises ImageError.
    """
    reader = _Reader(f"{directory}/hosts.toml", directory, registry)
    hosts = reader.table(document, "host")
    endpoints = [reader.endpoint(url, reader.table(hosts, url), f'host."{url}".') for url in hosts]
    server = reader.text(document, "server", "")
    if server:
        endpoints.append(reader.endpoint(server, document, ""))
    else:
        endpoints.append(_registry_itself(registry, **reader.options(document, "")))
    return endpoints


class _Reader:
    """Takes values out of hosts.toml, and says where one is wrong."""

    def __init__(self, path: str, directory: str, registry: str) -> None:
        self._path = path
        self._directory = directory
        self._registry = registry

    def wrong(self, key: str, why: str) -> ImageError:
        return ImageError(f"{self._path} is wrong: {key} {why}")

    def table(self, parent: dict[str, Any], key: str) -> dict[str, Any]:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "is not a table")
        return value

    def text(self, table: dict[str, Any], key: str, where: str) -> str:
        value = table.get(key, "")
        if not isinstance(value, str):
            raise self.wrong(where + key, "is not a string")
        return value

    def endpoint(self, url: str, table: dict[str, Any], where: str) -> Endpoint:
        split = urlsplit(url if url.startswith(("http://", "https://")) else f"https://{url}")
        if not split.netloc or split.username is not None or split.query or split.fragment:
            raise self.wrong(f'"{url}"', "is not the URL of a host")
        override = table.get("override_path", False)
        if not isinstance(override, bool):
            raise self.wrong(f"{where}override_path", "is neither true nor false")
        path = os.path.normpath(split.path).rstrip("/") if split.path else ""
        if not override and not path.endswith("/v2"):
            path += "/v2"
        own = self._registry if self._registry != DEFAULT_DOMAIN else _DOCKER_HOST
        namespace = "" if split.netloc == own else self._registry
        options = self.options(table, where)
        return Endpoint(scheme=split.scheme, host=split.netloc, path=path, namespace=namespace, **options)

    def options(self, table: dict[str, Any], where: str) -> dict[str, Any]:
        """What a host's table says besides its URL; nothing for what is not there."""
        found: dict[str, Any] = {}
        capabilities = self._texts(table.get("capabilities") or [], f"{where}capabilities")
        if capabilities:
            wanted = {each.lower() for each in capabilities}
            if not wanted <= _CAPABILITIES:
                raise self.wrong(f"{where}capabilities", f"has unknown ones: {', '.join(wanted - _CAPABILITIES)}")
            found["resolves"], found["pulls"] = RESOLVE in wanted, PULL in wanted
        if "ca" in table:
            found["ca"] = tuple(self._file(each) for each in self._texts(table["ca"], f"{where}ca"))
        if "client" in table:
            found["client"] = self._pairs(table["client"], f"{where}client")
        if "skip_verify" in table:
            if not isinstance(table["skip_verify"], bool):
                raise self.wrong(f"{where}skip_verify", "is neither true nor false")
            found["skip_verify"] = table["skip_verify"]
        header = self.table(table, "header")
        if header:
            found["header"] = tuple(
                (name, value) for name in header for value in self._texts(header[name], f"{where}header.{name}")
            )
        timeout = self.text(table, "dial_timeout", where)
        if timeout:
            found["dial_timeout"] = self._duration(timeout, f"{where}dial_timeout")
        return found

    def _texts(self, value: Any, where: str) -> list[str]:
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise self.wrong(where, "is neither a string nor a list of strings")
        return values

    def _file(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._directory, path))

    def _pairs(self, value: Any, where: str) -> tuple[tuple[str, str], ...]:
        pairs = []
        for each in value if isinstance(value, list) else [value]:
            files = [self._file(name) for name in self._texts(each, where)]
            if len(files) > 2 or not files:
                raise self.wrong(where, "has what is neither a file nor a pair of files")
            pairs.append((files[0], files[-1]))
        return tuple(pairs)

    def _duration(self, text: str, where: str) -> float:
        import re

        parts = re.findall(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)", text)
        if "".join(number + unit for number, unit in parts) != text:
            raise self.wrong(where, f"is no duration: {text!r}; one reads 30s or 1m30s")
        units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
        return sum(float(number) * units[unit] for number, unit in parts)
