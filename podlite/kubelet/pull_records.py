"""Who may use an image that is here because somebody else's secret pulled it (KEP-2535).

Without this a pod without credentials could run a private image that another pod's secret has brought onto the
machine. So the kubelet writes down with which credentials it has pulled what; a pod that has none of these has to pull
for itself, and the registry decides. Images that the kubelet did not pull (loaded, preloaded, made here) are
everybody's: the policy NeverVerifyPreloadedImages, the kubelet's default.

    <state dir>/image_manager/
      pulled/sha256-<of the image's id>     the credentials that were good for it
      pulling/sha256-<of its name>          a pull that began; left by a killed kubelet it says that the image is no
                                            preloaded one, though it has no record

Source: pkg/kubelet/images/pullmanager and the types of kubelet.config.k8s.io/v1beta1, Kubernetes 1.36.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection

import msgspec

from podlite import log
from podlite.cri.types import AuthConfig
from podlite.linux.fs import FileLock, read_file, replace_file

_VERSION = "kubelet.config.k8s.io/v1beta1"
# How many secrets of one image are remembered for a match that only adds to what is known.
_SECRETS_MAX = 100
_MAX_FILE = 1 << 22


class PullSecret(msgspec.Struct, frozen=True, rename="camel"):
    """A Secret that pulled an image; the hash is that of the credentials in it."""

    uid: str = ""
    namespace: str = ""
    name: str = ""
    credential_hash: str = ""

    def same_place(self, other: PullSecret) -> bool:
        return (self.uid, self.namespace, self.name) == (other.uid, other.namespace, other.name)


class PullCredential(msgspec.Struct, frozen=True):
    """Credentials to try; those of a Secret carry where they are from, those of this machine do not."""

    auth: AuthConfig
    secret: PullSecret | None = None


class Grants(msgspec.Struct, rename="camel", omit_defaults=True):
    """With what a repository's image was pulled: `node_pods_accessible` means with nothing that only some pods have."""

    kubernetes_secrets: list[PullSecret] = []
    node_pods_accessible: bool = False


class PulledRecord(msgspec.Struct, rename="camel"):
    """ImagePulledRecord; the keys of the mapping are repositories, without tag and digest."""

    image_ref: str
    credential_mapping: dict[str, Grants] = {}
    last_updated_time: str = ""
    kind: str = "ImagePulledRecord"
    api_version: str = _VERSION


class PullIntent(msgspec.Struct, rename="camel"):
    """ImagePullIntent."""

    image: str
    kind: str = "ImagePullIntent"
    api_version: str = _VERSION


class Pulled(msgspec.Struct, frozen=True):
    """What is known of an image that is here; `grants` is None where it is not known who may use it."""

    by_kubelet: bool = False
    grants: Grants | None = None


def credential_hash(auth: AuthConfig) -> str:
    """By which credentials are known again without being kept."""
    return hashlib.sha256(msgspec.json.encode(auth)).hexdigest()


def is_accessible(pulled: Pulled, secrets: Collection[PullSecret]) -> bool:
    """Whether a pod with these Secrets may use an image as it is. Pure.

    A Secret that has pulled it may, also with other credentials in it by now; so may other Secrets with the same ones.
    """
    if not pulled.by_kubelet:
        return True
    if pulled.grants is None:
        return False
    if pulled.grants.node_pods_accessible:
        return True
    return any(
        known.same_place(secret) or (known.credential_hash and known.credential_hash == secret.credential_hash)
        for known in pulled.grants.kubernetes_secrets
        for secret in secrets
    )


def merge(grants: Grants | None, secret: PullSecret | None) -> Grants:
    """What is known when a pull with that Secret, or with none, has worked too. Pure."""
    if secret is None or (grants is not None and grants.node_pods_accessible):
        return Grants(node_pods_accessible=True)
    others = [each for each in grants.kubernetes_secrets if not each.same_place(secret)] if grants is not None else []
    secrets = sorted([*others[-_SECRETS_MAX + 1 :], secret], key=lambda each: (each.namespace, each.name, each.uid))
    return Grants(kubernetes_secrets=secrets)


class PullRecords:
    """The records below `directory`. Every method blocks. Any number of processes may use one directory.

    A record that cannot be read counts as one that allows nobody; one that cannot be written is logged: then a pod
    pulls once more than it would have to.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def look_up(self, image: str, image_ref: str, repository: str) -> Pulled:
        """What is known of the image `image_ref`, by the name `image` of `repository`."""
        try:
            record = self._read(image_ref)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the record of a pull cannot be read", image=image_ref, why=str(error))
            return Pulled(by_kubelet=True)
        if record is not None:
            return Pulled(by_kubelet=True, grants=record.credential_mapping.get(repository))
        return Pulled(by_kubelet=os.path.exists(self._intent(image)))

    def begin(self, image: str) -> None:
        """Notes that the image is going to be pulled. Raises OSError: without the note it may not be."""
        for name in ("pulling", "pulled"):
            os.makedirs(f"{self._directory}/{name}", mode=0o700, exist_ok=True)
        path = self._intent(image)
        scratch = f"{path}.{os.getpid()}.tmp"
        replace_file(path, msgspec.json.encode(PullIntent(image)), scratch=scratch, durable=False)

    def finish(self, image: str) -> None:
        """Forgets the note. Idempotent."""
        try:
            os.unlink(self._intent(image))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("the note of a pull cannot be removed", image=image, why=str(error))

    def add(self, image_ref: str, repository: str, secret: PullSecret | None) -> None:
        """Notes that the image was pulled from `repository` with a Secret, or with nothing that only some pods have."""
        try:
            with FileLock(f"{self._directory}/lock"):
                try:
                    record = self._read(image_ref) or PulledRecord(image_ref)
                except msgspec.DecodeError:
                    record = PulledRecord(image_ref)
                before = record.credential_mapping.get(repository)
                after = merge(before, secret)
                if after == before:
                    return
                record.credential_mapping[repository] = after
                record.last_updated_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                path = self._record(image_ref)
                replace_file(path, msgspec.json.encode(record), scratch=f"{path}.tmp")
        except OSError as error:
            log.warning("the record of a pull cannot be written", image=image_ref, why=str(error))

    def prune(self, there: Collection[str], before: float) -> None:
        """Forgets images that are not `there` any more and were not pulled since `before` (seconds since the epoch)."""
        try:
            names = os.listdir(f"{self._directory}/pulled")
        except FileNotFoundError:
            return
        keep = {os.path.basename(self._record(image)) for image in there}
        with FileLock(f"{self._directory}/lock"):
            for name in names:
                path = f"{self._directory}/pulled/{name}"
                try:
                    if name not in keep and os.stat(path).st_mtime < before:
                        os.unlink(path)
                except FileNotFoundError:
                    pass

    def _read(self, image_ref: str) -> PulledRecord | None:
        try:
            raw = read_file(self._record(image_ref), limit=_MAX_FILE)
        except FileNotFoundError:
            return None
        return msgspec.json.decode(raw, type=PulledRecord)

    def _record(self, image_ref: str) -> str:
        return f"{self._directory}/pulled/{_file_name(image_ref)}"

    def _intent(self, image: str) -> str:
        return f"{self._directory}/pulling/{_file_name(image)}"


def _file_name(text: str) -> str:
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"
