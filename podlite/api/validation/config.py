"""Validation of ConfigMaps and Secrets.

Source: pkg/apis/core/validation/validation.go, ValidateConfigMap and ValidateSecret, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.validation import names
from podlite.api.validation.meta import validate_meta
from podlite.api.validation.report import Report

if TYPE_CHECKING:
    from podlite.api.config import ConfigMap, Secret
    from podlite.api.problems import Problem

MAX_SIZE = 1024 * 1024
_ACCOUNT = "kubernetes.io/service-account.name"
_REDACTED = "<secret contents redacted>"
# the keys that a secret of that type must have
_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def validate_config_map(config_map: ConfigMap) -> list[Problem]:
    """What is wrong with a ConfigMap: keys, a key in both maps, more than 1 MiB."""
    report = Report()
    validate_meta(config_map.metadata, names.dns_subdomain, "metadata", report)
    size = 0
    for key, text in config_map.data.items():
        report.invalids(f"data[{key}]", key, names.config_key(key))
        if key in config_map.binary_data:
            report.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(text.encode())
    for key, data in config_map.binary_data.items():
        report.invalids(f"binaryData[{key}]", key, names.config_key(key))
        size += len(data)
    if size > MAX_SIZE:
        report.too_long("[]", MAX_SIZE)  # the API server's path for the whole object
    return report.problems


def validate_secret(secret: Secret) -> list[Problem]:
    """What is wrong with a Secret whose `string_data` has been merged: keys, size, and what its type demands."""
    report = Report()
    validate_meta(secret.metadata, names.dns_subdomain, "metadata", report)
    for key in secret.data:
        report.invalids(f"data[{key}]", key, names.config_key(key))
    if sum([len(data) for data in secret.data.values()]) > MAX_SIZE:
        report.too_long("data", MAX_SIZE)
    for key in _KEYS.get(secret.type, ()):
        if key not in secret.data:
            report.required(f"data[{key}]")
    if secret.type in ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"):
        _docker_config(secret, _KEYS[secret.type][0], report)
    elif secret.type == "kubernetes.io/service-account-token":
        if not secret.metadata.annotations.get(_ACCOUNT):
            report.required(f"metadata.annotations[{_ACCOUNT}]")
    elif secret.type == "kubernetes.io/basic-auth":
        if "username" not in secret.data and "password" not in secret.data:
            report.required("data[username]")
            report.required("data[password]")
    elif secret.type == "kubernetes.io/ssh-auth" and not secret.data.get("ssh-privatekey"):
        report.required("data[ssh-privatekey]")
    return report.problems


def _docker_config(secret: Secret, key: str, report: Report) -> None:
    if key not in secret.data:
        return
    import msgspec

    try:
        msgspec.json.decode(secret.data[key], type=dict)
    except msgspec.MsgspecError as error:
        report.invalid(f"data[{key}]", _REDACTED, str(error))
