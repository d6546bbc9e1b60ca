"""Which of many credentials fit an image: by host with wildcards, port, and the beginning of the path. Pure.

Source: pkg/credentialprovider/keyring.go, Kubernetes 1.36.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from podlite.cri.types import AuthConfig

_DEFAULT_REGISTRY = "index.docker.io"


_Credential = TypeVar("_Credential")


class Keyring(Generic[_Credential]):
    """Credentials by place: `https://index.docker.io/v1/`, `*.example.com:5000` or `gcr.io/team`."""

    def __init__(self, entries: Iterable[tuple[str, _Credential]] = ()) -> None:
        self._entries: dict[str, list[_Credential]] = {}
        for location, auth in entries:
            self._entries.setdefault(_key(location), []).append(auth)

    def lookup(self, repository: str) -> list[_Credential]:
        """The credentials to try for an image's repository (with its registry), the most exact place first.

        There may be several: a pull is tried with each until one works.
        """
        found = [
            auth
            for key in sorted(self._entries, reverse=True)
            if matches(key, repository)
            for auth in self._entries[key]
        ]
        if not found and _is_default_registry(repository):
            found = self._entries.get(_DEFAULT_REGISTRY, [])
        return found


def entries_of(auths: Mapping[str, AuthConfig]) -> list[tuple[str, AuthConfig]]:
    """A configuration's credentials as a keyring takes them; empty ones, that only mark a place, are left out."""
    return [(place, auth) for place, auth in auths.items() if auth != AuthConfig()]


def matches(pattern: str, target: str) -> bool:
    """Whether `target`, a repository, lies where `pattern` says; both are without a scheme.

    Each label of the host may have wildcards, which do not reach over a dot; the port must be the same; the path of
    the pattern must be how the target's begins.
    """
    pattern_host, pattern_path = _split(pattern)
    target_host, target_path = _split(target)
    pattern_name, pattern_port = _split_port(pattern_host)
    target_name, target_port = _split_port(target_host)
    pattern_labels, target_labels = pattern_name.split("."), target_name.split(".")
    return (
        pattern_port == target_port
        and len(pattern_labels) == len(target_labels)
        and target_path.startswith(pattern_path)
        and all(map(_label_matches, target_labels, pattern_labels))
    )


def _label_matches(label: str, pattern: str) -> bool:
    # Go negates a class with ^, fnmatch with !.
    return fnmatch.fnmatchcase(label, pattern.replace("[^", "[!"))


def _split(place: str) -> tuple[str, str]:
    host, slash, path = place.partition("/")
    return host, slash + path


def _split_port(host: str) -> tuple[str, str]:
    """(name, port) as Go's net.SplitHostPort has it; what has no port, or is none, is a name as a whole."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return (name, port[1:]) if bracket and port.startswith(":") else (host, "")
    name, colon, port = host.partition(":")
    return (name, port) if colon and ":" not in port else (host, "")


def _key(location: str) -> str:
    """`host[:port][/path]`; `/v1/` and `/v2/` at the path's beginning mean the host itself, as docker has it."""
    split = urlsplit(location if location.startswith(("http://", "https://")) else f"https://{location}")
    path = split.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return split.netloc + (path if path != "/" else "")


def _is_default_registry(repository: str) -> bool:
    first, slash, _ = repository.partition("/")
    if not first:
        return False
    return not slash or first in ("docker.io", _DEFAULT_REGISTRY) or not ("." in first or ":" in first)
