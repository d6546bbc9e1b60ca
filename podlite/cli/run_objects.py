"""ConfigMaps and Secrets from files of this machine: `podlite run --configmap NAME=PATH --secret-from NAME=PATH`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podlite.api.config import ConfigMap, Secret
    from podlite.api.manifest import Manifests


def add_objects(manifests: Manifests, config_maps: Iterable[str], secrets: Iterable[str]) -> None:
    """Adds them, in each namespace that has a pod. Blocking. Raises UsageError, KubeletError."""
    from podlite.kubelet.objects import read_config_map, read_secret

    namespaces = sorted({pod.metadata.namespace for pod in manifests.pods})
    for word in config_maps:
        name, path = _split("--configmap", word)
        for namespace in namespaces:
            _check_free(f"--configmap {word}", namespace, name, manifests.config_maps)
            manifests.config_maps.append(read_config_map(namespace, name, path))
    for word in secrets:
        name, path = _split("--secret-from", word)
        for namespace in namespaces:
            _check_free(f"--secret-from {word}", namespace, name, manifests.secrets)
            manifests.secrets.append(read_secret(namespace, name, path))


def _check_free(option: str, namespace: str, name: str, found: Iterable[ConfigMap | Secret]) -> None:
    for each in found:
        if (each.metadata.namespace, each.metadata.name) == (namespace, name):
            raise UsageError(
                f"{option}: there is a {each.kind} {namespace}/{name} already",
                hint="it is in a manifest, or was given twice: leave one of them out",
            )


def _split(option: str, word: str) -> tuple[str, str]:
    from podlite.api.validation.names import dns_subdomain

    name, equals, path = word.partition("=")
    if not equals or not path:
        raise UsageError(f"{option} {word}: it has to be NAME=PATH")
    problems = dns_subdomain(name)
    if problems:
        raise UsageError(f"{option} {word}: {name!r} cannot be a name: {problems[0]}")
    return name, path
