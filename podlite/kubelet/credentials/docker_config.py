"""Docker's files of credentials: `config.json`, and the older `.dockercfg`, which is its `auths` alone.

Sources: docker CLI cli/config/configfile; pkg/credentialprovider/config.go, Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podlite.cri.auth import decode_auth
from podlite.cri.types import AuthConfig


class BadConfig(ValueError):
    """The text is no configuration of that kind; the message says where."""


class DockerConfig(msgspec.Struct):
    """`auths` are credentials by place; `helpers` are credential helpers by registry; `store` is that of all others."""

    auths: dict[str, AuthConfig] = {}
    helpers: dict[str, str] = {}
    store: str = ""


class _Entry(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _File(msgspec.Struct, rename="camel"):
    auths: dict[str, _Entry] | None = None
    cred_helpers: dict[str, str] | None = None
    creds_store: str | None = None


def parse_config(raw: bytes) -> DockerConfig:
    """`config.json`, also of a Secret of the type kubernetes.io/dockerconfigjson. Raises BadConfig."""
    try:
        file = msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(str(error)) from error
    return DockerConfig(_auths(file.auths or {}), file.cred_helpers or {}, file.creds_store or "")


def parse_legacy_config(raw: bytes) -> DockerConfig:
    """`.dockercfg`, also of a Secret of the type kubernetes.io/dockercfg. Raises BadConfig."""
    try:
        return DockerConfig(_auths(msgspec.json.decode(raw, type=dict[str, _Entry])))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(str(error)) from error


def _auths(entries: Mapping[str, _Entry]) -> dict[str, AuthConfig]:
    return {place: _auth_config(place, entry) for place, entry in entries.items()}


def _auth_config(place: str, entry: _Entry) -> AuthConfig:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            username, password = decode_auth(entry.auth)
        except ValueError as error:
            raise BadConfig(f"the auth of {place} is not what it should be: {error}") from error
    return AuthConfig(
        username=username,
        password=password,
        identity_token=entry.identitytoken,
        registry_token=entry.registrytoken,
    )
