"""What evicts a pod for its use of the disk: localStorageEviction in pkg/kubelet/eviction/eviction_manager.go."""

from __future__ import annotations

from typing import Any

import pytest

from podlite.api.container import ResourceRequirements
from podlite.kubelet.local_storage import ContainerUsage, exceeded_storage, is_limited
from tests.support.pods import a_pod, sidecar, with_fields

MEBI = 1 << 20


def limited(name: str, limit: str) -> Any:
    return with_fields(name, resources=ResourceRequirements(limits={"ephemeral-storage": limit}))


def used(name: str, layer: int, logs: int = 0) -> ContainerUsage:
    return ContainerUsage(name, layer * MEBI, logs * MEBI)


@pytest.mark.parametrize(
    ("mutators", "usage", "volumes", "message"),
    [
        ([], [used("c1", 9999)], 9999, ""),
        ([limited("c1", "4Mi")], [used("c1", 2, 2)], 0, ""),
        (
            [limited("c1", "4Mi"), limited("c2", "9Mi")],
            [used("c1", 3, 2), used("c2", 0)],
            0,
            'Container c1 exceeded its local ephemeral storage limit "4Mi". ',
        ),
        # All that the pod takes is held against the sum of the limits that there are, volumes too.
        (
            [limited("c1", "4Mi")],
            [used("c1", 1), used("c2", 4)],
            0,
            "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
        ),
        (
            [limited("c1", "4Mi")],
            [used("c1", 1)],
            5 * MEBI,
            "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
        ),
        # An init container's own limit is none for it alone.
        ([sidecar("s1"), limited("s1", "1Mi"), limited("c1", "9Mi")], [used("s1", 2)], 0, ""),
        # 0 is no limit for a container; for the pod it is one.
        (
            [limited("c1", "0")],
            [used("c1", 1)],
            0,
            "Pod ephemeral local storage usage exceeds the total limit of containers 0. ",
        ),
    ],
)
def test_what_is_exceeded(mutators: list[Any], usage: list[ContainerUsage], volumes: int, message: str) -> None:
    assert exceeded_storage(a_pod(*mutators, containers=2), usage, volumes) == message


def test_who_is_looked_at() -> None:
    assert not is_limited(a_pod())
    assert is_limited(a_pod(limited("c1", "1Mi")))
