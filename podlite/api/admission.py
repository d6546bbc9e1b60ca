"""The identity that a pod gets when it is taken on, as an API server gives it on creation.

Source: staging/src/k8s.io/apiserver/pkg/registry/rest/create.go, pkg/storage/names/generate.go and
pkg/registry/core/pod/strategy.go, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podlite.api.qos import qos_class
from podlite.api.status import PodStatus

if TYPE_CHECKING:
    from podlite.api.base import Time
    from podlite.api.pod import Pod

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_MAX_GENERATED_BASE = 63 - _SUFFIX_LENGTH


def admit(pod: Pod, *, uid: str, now: Time) -> None:
    """Makes a defaulted and validated pod a new object: its uid, time of creation, first generation and status.

    What only a server may set is replaced, whatever the manifest says: a pod that was copied from a cluster with
    its status starts afresh. A pod with `generate_name` and no name gets one, made from the uid. Changes the
    pod in place; the same uid and time give the same pod.
    """
    meta = pod.metadata
    if not meta.name and meta.generate_name:
        meta.name = generated_name(meta.generate_name, uid)
    meta.uid = uid
    meta.creation_timestamp = now
    meta.generation = 1
    meta.deletion_timestamp = None
    meta.deletion_grace_period_seconds = None
    meta.resource_version = ""
    meta.self_link = ""
    meta.managed_fields = []
    pod.status = PodStatus(phase="Pending", qos_class=qos_class(pod))


def generated_name(base: str, uid: str) -> str:
    """The base, cut to 58 characters, and five letters that depend on the uid."""
    number = int.from_bytes(uid.encode())
    suffix = ""
    for _ in range(_SUFFIX_LENGTH):
        number, letter = divmod(number, len(_LETTERS))
        suffix += _LETTERS[letter]
    return base[:_MAX_GENERATED_BASE] + suffix
