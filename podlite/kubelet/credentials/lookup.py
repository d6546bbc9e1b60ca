"""The credentials to try for an image, in their order: those of the pod's secrets, then those of this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anyio import to_thread

from podlite import log
from podlite.errors import PodliteError, explain
from podlite.kubelet import events
from podlite.kubelet.credentials.docker_config import BadConfig, DockerConfig, parse_config, parse_legacy_config
from podlite.kubelet.credentials.helpers import ask_helper
from podlite.kubelet.credentials.keyring import Keyring, entries_of
from podlite.kubelet.image_name import repository_of
from podlite.kubelet.pull_records import PullCredential, PullSecret, credential_hash
from podlite.kubelet.types import KubeletError
from podlite.linux.fs import read_file

if TYPE_CHECKING:
    from podlite.api.config import Secret
    from podlite.api.pod import Pod
    from podlite.cri.types import AuthConfig
    from podlite.kubelet.image_manager import Record
    from podlite.kubelet.types import ObjectStore

_MAX_FILE = 1 << 20
DOCKER_CONFIG_JSON, DOCKER_CONFIG_JSON_KEY = "kubernetes.io/dockerconfigjson", ".dockerconfigjson"
DOCKER_CONFIG, DOCKER_CONFIG_KEY = "kubernetes.io/dockercfg", ".dockercfg"
# Docker's own name for its registry, in its files and to its helpers.
_DOCKER_SERVER = "https://index.docker.io/v1/"


async def machine_credentials(image: str, paths: tuple[str, ...]) -> list[AuthConfig]:
    """What the files at `paths` have for an image. A file that is damaged, or a helper that fails, is an error.

    Raises PodliteError.
    """
    repository = repository_of(image)
    found: list[AuthConfig] = []
    for path in paths:
        config = await to_thread.run_sync(_read, path)
        if config is not None:
            found.extend(await credentials_in(config, repository))
    return found


async def credentials_in(config: DockerConfig, repository: str) -> list[AuthConfig]:
    """What one configuration has for a repository: its helper's answer, then its own entries. Raises PodliteError."""
    host = repository.partition("/")[0]
    server = _DOCKER_SERVER if host == "docker.io" else host
    helper = config.helpers.get(server) or config.helpers.get(host) or config.store
    found = []
    if helper:
        answer = await ask_helper(helper, server)
        if answer is not None:
            found.append(answer)
    return [*found, *Keyring(entries_of(config.auths)).lookup(repository)]


def secret_keyring(secrets: list[Secret]) -> Keyring[PullCredential]:
    """The credentials in Secrets of the two types; others are left out. Pure. Raises KubeletError for a damaged one."""
    entries: list[tuple[str, PullCredential]] = []
    for secret in secrets:
        try:
            if secret.type == DOCKER_CONFIG_JSON and secret.data.get(DOCKER_CONFIG_JSON_KEY):
                config = parse_config(secret.data[DOCKER_CONFIG_JSON_KEY])
            elif secret.type == DOCKER_CONFIG and secret.data.get(DOCKER_CONFIG_KEY):
                config = parse_legacy_config(secret.data[DOCKER_CONFIG_KEY])
            else:
                continue
        except BadConfig as error:
            name = f"{secret.metadata.namespace or 'default'}/{secret.metadata.name}"
            raise KubeletError(f"the image pull secret {name} is damaged: {error}", reason="ErrImagePull") from error
        meta = secret.metadata
        for place, auth in entries_of(config.auths):
            source = PullSecret(meta.uid, meta.namespace or "default", meta.name, credential_hash(auth))
            entries.append((place, PullCredential(auth, source)))
    return Keyring(entries)


class PullCredentials:
    """What a kubelet pulls with. `paths` are docker's files of this machine."""

    def __init__(self, objects: ObjectStore, paths: tuple[str, ...]) -> None:
        self._objects = objects
        self._paths = paths

    async def lookup(self, pod: Pod, image: str, record: Record) -> list[PullCredential]:
        """The credentials to try for a pod's image; none means without. Raises KubeletError.

        Secrets that are not there are passed over with an event, and so is what is wrong on this machine with a
        warning: the image may need neither.
        """
        secrets, missing = [], []
        for reference in pod.spec.image_pull_secrets:
            secret = self._objects.secret(pod.metadata.namespace, reference.name)
            if secret is not None:
                secrets.append(secret)
            else:
                missing.append(reference.name)
        if missing:
            # pkg/kubelet/kubelet_pods.go, getPullSecretsForPod and its caller
            record(
                events.WARNING,
                events.SECRET_NOT_RETRIEVED,
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may "
                "not succeed.",
            )
        found = secret_keyring(secrets).lookup(repository_of(image))
        try:
            found = [*found, *map(PullCredential, await machine_credentials(image, self._paths))]
        except PodliteError as error:
            log.warning("some credentials of this machine cannot be used", image=image, why=str(error))
        return [each for place, each in enumerate(found) if each not in found[:place]]


def _read(path: str) -> DockerConfig | None:
    try:
        raw = read_file(path, limit=_MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PodliteError(f"the credentials in {path} cannot be read: {explain(error)}") from error
    try:
        legacy = os.path.basename(path) == DOCKER_CONFIG_KEY
        return parse_legacy_config(raw) if legacy else parse_config(raw)
    except BadConfig as error:
        raise PodliteError(f"{path} is not a file of credentials: {error}") from error
