"""What makes a static pod of a manifest: the identity that the kubelet gives to it. Pure.

The UID is a hash of the manifest, the machine and the place of the manifest, so that an edited or renamed manifest
is another pod, and the same one is the same pod for every podlite that reads it. (The kubelet hashes Go's printed
form of the object; the numbers differ, what they depend on does not.)

Source: pkg/kubelet/config/common.go (applyDefaults, generatePodName), config.go and pkg/kubelet/types/pod_update.go,
Kubernetes 1.36.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from podlite.api.scheduling import Toleration

if TYPE_CHECKING:
    from podlite.api.pod import Pod

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SEEN = "kubernetes.io/config.seen"

FILE, HTTP, API = "file", "http", "api"

_MOST_NAME = 253


def static_pod(pod: Pod, *, source: str, origin: str, node_name: str, seen: str) -> Pod:
    """The pod that a manifest from `origin` (a path or URL) makes on this machine; `source` is FILE or HTTP.

    `seen` is when, in RFC 3339. The result shares nothing that is changed with what was given.
    """
    uid = pod.metadata.uid or pod_uid(pod, source=source, origin=origin, node_name=node_name)
    meta = pod.metadata
    annotations = {**meta.annotations, CONFIG_HASH: uid, CONFIG_SOURCE: source, CONFIG_SEEN: seen}
    spec = structs.replace(pod.spec, node_name=node_name)
    if source == FILE:
        # Static pods are not evicted for what is wrong with their node.
        no_execute = Toleration(operator="Exists", effect="NoExecute")
        others = [each for each in spec.tolerations if each != no_execute]
        spec = structs.replace(spec, tolerations=[*others, no_execute])
    named = structs.replace(
        meta,
        name=static_name(meta.name, node_name),
        namespace=meta.namespace or "default",
        uid=uid,
        annotations=annotations,
        generation=1,
        resource_version="",
        deletion_timestamp=None,
        deletion_grace_period_seconds=None,
        creation_timestamp=None,
    )
    return structs.replace(pod, metadata=named, spec=spec, status=type(pod.status)())


def static_name(name: str, node_name: str) -> str:
    """`NAME-NODE`: static pods of several machines are told apart by it."""
    return f"{name}-{node_name.lower()}"[:_MOST_NAME]


def pod_uid(pod: Pod, *, source: str, origin: str, node_name: str) -> str:
    """32 hexadecimal digits, as the kubelet's."""
    # The status of a copied manifest says nothing about the pod that is wanted.
    text = msgspec.json.encode([pod.metadata, pod.spec], order="sorted")
    place = f"host:{node_name}file:{origin}" if source == FILE else f"url:{origin}"
    return hashlib.md5(text + place.encode(), usedforsecurity=False).hexdigest()


def source_of(pod: Pod) -> str:
    """FILE, HTTP or API."""
    return pod.metadata.annotations.get(CONFIG_SOURCE, API)


def is_static(pod: Pod) -> bool:
    """Whether the pod comes from a manifest, and would come back if it were deleted."""
    return source_of(pod) in (FILE, HTTP)
